"""What leaves this machine, and what comes to it: studies as data.

    contribute.py --by "NAME <CONTACT>" [--note TEXT] [--config FILE] [Snakemake's own options]
        measures a study as run.py does, checks it, and packs it into results/contributions/, to be sent
    contribute.py --accept ARCHIVE [--as NAME]
        checks such an archive and unpacks it into results/reference/, ready to be committed
    contribute.py --ship STUDY
        copies a finished study of this machine to results/reference/, ready to be committed

Only data ship: pooled samples and records, the table of positions that equality is judged by, experiments, machine,
config, prompts and provenance. `make verify` checks their hashes, and `make report` makes tables, figures and pages of
them, on a machine without a GPU. Raw files, logits and weights stay behind. results/reference/README.md lists the
SHA-256 of each study's provenance.json, which `make verify` compares, and who measured it.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import signal
import sys
import tempfile
from pathlib import Path

try:  # they take seconds
    import run
    import verify
    from firsttoken.command_line import end_with
    from firsttoken.files import read_json, sha256_file, write_json
    from firsttoken.private_folder import PrivateFolder
    from firsttoken.results import Environment
    from firsttoken.study import verification
    from firsttoken.study.config import find_study
    from firsttoken.study.config_file import find_config
    from firsttoken.study.contribution import STUDY_NAME, check, contributor, pack, personal_data, unpack
    from firsttoken.study.git import committed, history_problem, uncommitted
    from firsttoken.study.schema import one_line
    from firsttoken.study.shipping import CONTRIBUTOR, HASH_LIST, Contributor, list_study, listed_hashes, ship
except KeyboardInterrupt:
    sys.exit(130)

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
REFERENCE = RESULTS / "reference"


def main() -> int:
    """Parse the options, do one of the three, and give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--by", default="", help="who measures: name and mail or https address; both become public")
    parser.add_argument("--note", default="", help="what others should know of this machine, one line")
    parser.add_argument("--config", help="a file, or the name of one in config/studies/; laid over config/config.yaml")
    parser.add_argument("--accept", type=Path, metavar="ARCHIVE", help="what somebody has sent")
    parser.add_argument(
        "--as", dest="name", default="", help="of the accepted study's folder, where its own name is taken"
    )
    parser.add_argument("--ship", metavar="STUDY", help="a finished study of this machine")
    options, rest = parser.parse_known_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # temporary files are cleaned up
    try:
        if options.accept:
            return accept(options.accept, options.name)
        if options.ship is not None:
            return listed(ship_study(options.ship))
        config = find_config(options.config, ROOT) if options.config else None
        return contribute(contributor(options.by, options.note), config, rest)
    except (ValueError, OSError) as error:
        print(f"firsttoken: {one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("firsttoken: interrupted; give the same command again", file=sys.stderr)
        return 128 + signal.SIGINT


def ship_study(study: str) -> Path:
    """Copy a finished study to results/reference/; the folder there. Raises ValueError where it is not there, or is
    there already."""
    folder = find_study(study, RESULTS).resolve()
    if REFERENCE.resolve() in folder.parents:
        raise ValueError(f"STUDY={study!r} is in results/reference/ already")
    if (target := REFERENCE / folder.name).exists():
        raise ValueError(f"{target}: there already; delete it to ship the study again")
    verdict = verification.verify(folder / "provenance.json", ROOT)
    if damaged := [line for line in (*verdict.changed, *verdict.missing) if line.startswith("result ")]:
        raise ValueError(f"{damaged[0]}; only what was measured ships: make verify STUDY={study} names every such file")
    ship(folder, target, ROOT)
    return target


def contribute(who: Contributor, config: Path | None, rest: list[str]) -> int:
    """Measure, check and pack; what is finished already is not measured again. Raises ValueError, one line, where the
    study could not be accepted by anybody."""
    run.refuse_another_study(rest)
    if problem := uncommitted(ROOT):
        raise ValueError(f"{problem}; only what a commit measured can be checked by others: commit, or put it back")
    if config is not None and not committed(ROOT, config):
        raise ValueError(f"{config}: in no commit, so that nobody could check the study; commit it in config/")
    study = run.study_name(config)
    status = measure(study, config, rest) or verify.main(study)
    if status:
        print("firsttoken: nothing was packed; the same command goes on with what is finished", file=sys.stderr)
        return status
    with PrivateFolder("contribute") as staging:
        folder = Path(staging) / study
        ship(RESULTS / study, folder, ROOT)
        write_json(folder / CONTRIBUTOR, who)
        check(folder)
        day = read_json(folder / "environment.json", Environment).recorded_at[:10]
        short = sha256_file(folder / "provenance.json")[:8]
        archive = RESULTS / "contributions" / f"{study}-{day}-{short}.tar.gz"
        pack(folder, archive)
        print(f"\n{archive.relative_to(ROOT)} holds:")
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            print(f"  {path.relative_to(folder)}  {path.stat().st_size:,} bytes")
        print("What it says of you and this machine:")
        for line in personal_data(folder, [str(Path.home()), platform.node()]):
            print(f"  {line}")
    print(f"Size: {archive.stat().st_size / 1e6:.2f} MB. SHA-256: {sha256_file(archive)}")
    print("To send it, open an issue of the kind Measurement and attach the archive.")
    return 0


def measure(study: str, config: Path | None, rest: list[str]) -> int:
    """The study and its report, as `make run` makes them; first it is said which approaches cannot run here."""
    environment = f"results/{study}/environment.json"
    configfile = ["--configfile", str(config)] if config else []
    status, outcome = run.pipeline([environment, *rest, *run.slots(), *configfile])
    run.tell_failures(status, outcome)
    if status:
        return status
    for name, found in read_json(ROOT / environment, Environment).approaches.items():
        if found.status == "unavailable":
            print(f"firsttoken: {name} cannot run here: {found.reason}", flush=True)
    return run.run_study(config, None, rest)


def accept(archive: Path, name: str) -> int:
    """Check what somebody has sent, and unpack it into results/reference/. Raises ValueError, one line, for an archive
    that is not one study, that this clone cannot check, or that is there already."""
    if problem := history_problem(ROOT):
        raise ValueError(f"{archive} cannot be checked: {problem}")
    if name and not STUDY_NAME.fullmatch(name):
        raise ValueError(f"STUDY={name!r}: a name has up to 64 letters, digits, dots, underscores and hyphens")
    REFERENCE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".accept-", dir=RESULTS) as staging:
        folder = unpack(archive, Path(staging))
        who = check(folder)
        target = REFERENCE / (name or folder.name)
        digest = sha256_file(folder / "provenance.json")
        if known := [study for study, sha256 in listed_hashes(REFERENCE / HASH_LIST).items() if sha256 == digest]:
            raise ValueError(f"{archive}: is there already as results/reference/{known[0]}")
        if target.exists():
            number = next(n for n in itertools.count(2) if not (REFERENCE / f"{folder.name}-{n}").exists())
            raise ValueError(f"{target.relative_to(ROOT)} is another study; add STUDY={folder.name}-{number}")
        if verify.main(str(folder)) != 0:
            raise ValueError(
                f"{archive}: not accepted, see above; a config or code that is in no commit here may be in one of the "
                "sender's: fetch that into a branch first"
            )
        folder.rename(target)
    print(f"Measured by {who.name}, {who.contact}. {who.note}")
    print(f"SHA-256 of the archive: {sha256_file(archive)}")
    return listed(target)


def listed(folder: Path) -> int:
    """Enter a study of results/reference/ into the list there and say what to commit; 0, the exit status."""
    list_study(folder)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    commit = f"git add {folder.relative_to(ROOT)} {(REFERENCE / HASH_LIST).relative_to(ROOT)}"
    print(f"{folder}: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB; commit it with: {commit}")
    print(f"SHA-256 of provenance.json: {sha256_file(folder / 'provenance.json')}")
    return 0


if __name__ == "__main__":
    end_with(main)
