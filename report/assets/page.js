"use strict";
// Tables: a click on a heading sorts by it, numbers as numbers; the button saves the table that lies beside it as CSV.
const keyOf = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
};
const isMissing = (value) => value === "" || Number.isNaN(value);
const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      const present = rows.filter((row) => !isMissing(keyOf(row, column)));
      const absent = rows.filter((row) => isMissing(keyOf(row, column))); // always last
      present.sort((a, b) => compare(keyOf(a, column), keyOf(b, column)));
      if (descending) present.reverse();
      table.tBodies[0].append(...present, ...absent);
    });
  });
}
for (const box of document.querySelectorAll(".table")) {
  box.querySelector(".download").addEventListener("click", () => {
    const text = JSON.parse(box.querySelector("script").textContent);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = box.dataset.name.replaceAll(" ", "_") + ".csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
const observer = new ResizeObserver((entries) => {
  for (const { target } of entries) target.classList.toggle("wide", target.scrollWidth > target.clientWidth);
});
for (const box of document.querySelectorAll(".scroll, .plot")) observer.observe(box);
// Links between pages. As files they simply work. Inside Snakemake's report a page has no address of its own: the report's
// landing text listens and opens the page that is asked for; where nobody answers, the link says where to find the page.
if (window.parent !== window) {
  const links = [...document.querySelectorAll("a[href$='.html']")];
  for (const link of links) {
    const name = link.getAttribute("href").split("/").pop();
    link.classList.add("asleep");
    link.title = "In the report's menu: " + name.replace(".html", "");
    link.addEventListener("click", (event) => {
      event.preventDefault();
      if (!link.classList.contains("asleep")) window.parent.postMessage({ firsttoken: name }, "*");
    });
    window.parent.postMessage({ firsttoken: name, ask: true }, "*");
  }
  window.addEventListener("message", (message) => {
    if (message.source !== window.parent || !message.data || !message.data.known) return;
    for (const link of links.filter((one) => one.getAttribute("href").split("/").pop() === message.data.firsttoken)) {
      link.classList.remove("asleep");
      link.removeAttribute("title");
    }
  });
}
