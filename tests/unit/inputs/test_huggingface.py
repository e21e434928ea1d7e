"""Downloads against a hub on loopback: ranges, refusals, cuts, wrong hashes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from firsttoken.files import sha256_file
from firsttoken.inputs import huggingface
from firsttoken.inputs.checks import examine_model
from firsttoken.inputs.fetch import fetch_model
from firsttoken.inputs.model_files import INDEX
from unit.inputs.conftest import CORPUS
from unit.inputs.fake_hub import REPO, REVISION, FakeHub, Faults, git_blob, is_large, read_folder
from unit.inputs.weights import Tensors, changed_copy, with_config
from unit.toy_families import toy_config

SECTION: dict[str, Any] = {
    "name": "hubbed",
    "source": "huggingface",
    "dtype": "float16",
    "repo": REPO,
    "revision": REVISION,
}
WEIGHTS = "model.safetensors"
UNWANTED = {
    "pytorch_model.bin": b"pickled",
    "consolidated.safetensors": b"the same weights again",
    "README.md": b"# a card",
    "modeling_custom.py": b"raise SystemExit",
}


@pytest.fixture
def hub(llama_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub(read_folder(llama_folder) | UNWANTED) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def refusal(section: dict[str, Any]) -> str | None:
    """What is said before any job."""
    try:
        examine_model(section, CORPUS)
    except ValueError as error:
        return str(error)
    return None


def test_only_what_is_needed_arrives_and_is_described(hub: FakeHub, tmp_path: Path, corpus: Path) -> None:
    manifest = fetch_model(SECTION, tmp_path / "model", corpus)
    assert {path.name for path in (tmp_path / "model").iterdir()} == set(hub.files) - set(UNWANTED)
    assert {entry.path: entry.sha256 for entry in manifest.files} == {
        path.name: sha256_file(path) for path in (tmp_path / "model").iterdir()
    }
    assert (tmp_path / "model" / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert (manifest.origin, manifest.revision) == (REPO, REVISION)
    assert manifest.weight_bytes == 2 * manifest.parameters
    assert not (tmp_path / "model.partial").exists()
    for name in UNWANTED:
        assert not hub.gets(name)


def test_a_cut_connection_goes_on_where_it_broke(hub: FakeHub, tmp_path: Path, corpus: Path) -> None:
    hub.faults = Faults(cut_after=1 << 20, cuts=2)
    fetch_model(SECTION, tmp_path / "model", corpus)
    assert [request.range for request in hub.gets(WEIGHTS)] == ["", f"bytes={1 << 20}-", f"bytes={2 << 20}-"]
    assert (tmp_path / "model" / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_a_line_that_stays_dead_keeps_what_arrived(hub: FakeHub, tmp_path: Path, corpus: Path) -> None:
    hub.faults = Faults(cut_after=0, cuts=1000)
    partial = tmp_path / "model.partial"
    with pytest.raises(ValueError, match=r"connection to the hub .* broke .*run again to resume") as caught:
        fetch_model(SECTION, tmp_path / "model", corpus)
    assert "\n" not in str(caught.value)
    assert (partial / "config.json").is_file()
    assert not (tmp_path / "model").exists()
    hub.faults = Faults()
    hub.requests.clear()
    fetch_model(SECTION, tmp_path / "model", corpus)
    assert not hub.gets("config.json"), "a file that was complete was downloaded again"


def test_a_killed_download_is_resumed_by_the_next_process(hub: FakeHub, tmp_path: Path, corpus: Path) -> None:
    hub.faults = Faults(cut_after=1 << 20, cuts=1, stall=threading.Event())
    program = (
        "import sys, pathlib\n"
        "from huggingface_hub import constants\n"
        "constants.DOWNLOAD_CHUNK_SIZE = 1 << 16\n"
        "from firsttoken.inputs.huggingface import download_model\n"
        "download_model(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]))\n"
    )
    partial = tmp_path / "model.partial"
    partial.mkdir()
    scripts = Path(__file__).parents[3] / "scripts"
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "PYTHONPATH": str(scripts), "HF_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program, REPO, REVISION, str(partial)], env=environment) as process:
        half = partial / f".{WEIGHTS}.incomplete"
        deadline = time.monotonic() + 60
        while not (half.exists() and half.stat().st_size == 1 << 20) and time.monotonic() < deadline:
            threading.Event().wait(0.02)
            assert process.poll() is None, "the download ended before it was killed"
        process.kill()
    assert half.stat().st_size == 1 << 20
    hub.requests.clear()
    fetch_model(SECTION, tmp_path / "model", corpus)
    assert [request.range for request in hub.gets(WEIGHTS)] == [f"bytes={1 << 20}-"]
    assert (tmp_path / "model" / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_a_wrong_hash_is_named_and_the_file_fetched_again(
    hub: FakeHub, tmp_path: Path, corpus: Path, name: str
) -> None:
    hub.faults = Faults(spoil=name)
    with pytest.raises(ValueError, match=rf"{name} arrived with hash"):
        fetch_model(SECTION, tmp_path / "model", corpus)
    assert not (tmp_path / "model").exists()
    hub.faults = Faults()
    fetch_model(SECTION, tmp_path / "model", corpus)
    assert (tmp_path / "model" / name).read_bytes() == hub.files[name]


@pytest.mark.parametrize("token", [None, "refused"])
def test_a_gated_model_says_what_to_do(
    hub: FakeHub, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    hub.faults = Faults(gated=True)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    advice = rf"{REPO} is gated; accept its licence at https://huggingface.co/{REPO}, then run `hf auth login`"
    with pytest.raises(ValueError, match=advice) as caught:
        fetch_model(SECTION, tmp_path / "model", corpus)
    assert "\n" not in str(caught.value)
    assert refusal(SECTION) == str(caught.value)


def test_the_token_opens_a_gated_model_and_goes_to_the_hub_alone(
    hub: FakeHub, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults = Faults(gated=True)
    monkeypatch.setenv("HF_TOKEN", "allowed")
    assert refusal(SECTION) is None
    fetch_model(SECTION, tmp_path / "model", corpus)
    elsewhere = [request for request in hub.requests if request.path.startswith("/cdn/")]
    assert elsewhere
    assert {request.authorization for request in elsewhere} == {""}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repo": "someone/else"}, r"model\.repo: someone/else is not on the hub, or private"),
        ({"revision": "f" * 40}, r"model\.revision: someone/tiny-llama has no commit f{40}"),
    ],
)
def test_what_is_not_there(hub: FakeHub, tmp_path: Path, corpus: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fetch_model(SECTION | change, tmp_path / "model", corpus)
    problem = refusal(SECTION | change)
    assert problem is not None
    assert "\n" not in problem


def test_pickled_weights_alone_are_refused(hub: FakeHub, tmp_path: Path, corpus: Path) -> None:
    del hub.files[WEIGHTS]
    with pytest.raises(ValueError, match="only pickled weights"):
        fetch_model(SECTION, tmp_path / "model", corpus)
    assert not hub.gets("pytorch_model.bin")


def in_hub(hub: FakeHub, folder: Path) -> None:
    """Put the files of a folder into the hub."""
    hub.files.update(read_folder(folder))


def test_a_quantization_config_is_refused_before_any_job(
    hub: FakeHub, llama_folder: Path, tmp_path: Path, corpus: Path
) -> None:
    assert refusal(SECTION) is None
    quantised = changed_copy(llama_folder, tmp_path / "quantised", lambda tensors: None)
    in_hub(hub, with_config(quantised, quantization_config={"quant_method": "awq"}))
    words = f"{REPO} at {REVISION}: config.json has a quantization_config (awq); only float32, float16 and bfloat16"
    problem = refusal(SECTION)
    assert problem is not None and problem.startswith(words) and "\n" not in problem
    with pytest.raises(ValueError, match=re.escape(words)):
        fetch_model(SECTION, tmp_path / "model", corpus)
    assert not hub.gets(WEIGHTS), "nothing large was downloaded"


@pytest.mark.parametrize("sharded", [False, True])
def test_stored_dtypes_are_looked_at_in_the_headers(
    hub: FakeHub, llama_folder: Path, tmp_path: Path, corpus: Path, sharded: bool
) -> None:
    import torch

    def to_8_bits(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors["lm_head.weight"].to(torch.int8)

    in_hub(hub, changed_copy(llama_folder, tmp_path / "quantised", to_8_bits))
    if sharded:
        hub.files["model-00001-of-00001.safetensors"] = hub.files.pop(WEIGHTS)
        hub.files[INDEX] = json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}).encode()
    words = f"{REPO} at {REVISION}: tensor lm_head.weight is stored as I8; only F32, F16 and BF16"
    problem = refusal(SECTION)
    assert problem is not None and problem.startswith(words) and "\n" not in problem
    with pytest.raises(ValueError, match=re.escape(words)):
        fetch_model(SECTION, tmp_path / "model", corpus)
    assert not [name for name in hub.files if is_large(name) and hub.gets(name)], "nothing large was downloaded"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", b"[1]", "config.json: found a JSON list"),
        ("config.json", b"{", "config.json: no valid JSON"),
        (WEIGHTS, b"\x02\0\0\0\0\0\0\0[]", "model.safetensors: "),
        (WEIGHTS, b'\x0a\0\0\0\0\0\0\0{"a": "b"}', "model.safetensors: "),
        (WEIGHTS, b"\xff" * 100, "safetensors header is too big"),
        (WEIGHTS, b"", "model.safetensors"),
        (INDEX, b'{"weight_map": {"a": "../evil.bin"}}', "names '../evil.bin', which is no safetensors file beside"),
        (INDEX, b'{"weight_map": {"a": "../../evil.safetensors"}}', "names '../../evil.safetensors', which is no"),
        ("config.json", b" " * 300, "config.json is larger than 200 bytes"),
    ],
)
def test_what_a_hostile_hub_says_is_one_line(
    hub: FakeHub, name: str, content: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen failing: a name that leads out of the folder was asked for; a config of any size was read into memory."""
    if len(content) == 300:
        monkeypatch.setattr(huggingface, "SMALL_BYTES", 200)
    hub.files[name] = content
    problem = refusal(SECTION)
    assert problem is not None and words in problem and "\n" not in problem


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
@pytest.mark.parametrize("size", [-1, 0, None, "7", 2**60])
def test_a_size_that_cannot_be_is_refused(hub: FakeHub, name: str, size: Any, tmp_path: Path, corpus: Path) -> None:
    """Seen failing: no size, or one that is no number, was a TypeError; a config of 2**60 bytes was begun."""
    hub.faults = Faults(sizes={name: size})
    with pytest.raises(ValueError, match=r"bytes, the hub says|make room") as caught:
        fetch_model(SECTION, tmp_path / "model", corpus)
    assert "\n" not in str(caught.value) and not hub.gets(name)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_no_more_is_taken_than_was_promised(hub: FakeHub, name: str, tmp_path: Path, corpus: Path) -> None:
    """Seen failing: everything that a server sent was written, until the disk was full."""
    hub.faults = Faults(endless=name, more=1 << 20)
    promised = len(hub.files[name])
    with pytest.raises(ValueError, match=rf"{name}\.incomplete: more arrives than the {promised} bytes"):
        fetch_model(SECTION, tmp_path / "model", corpus)
    assert (tmp_path / "model.partial" / f".{name}.incomplete").stat().st_size <= promised


def test_what_an_earlier_call_left_is_hashed_again(hub: FakeHub, tmp_path: Path, corpus: Path) -> None:
    """Seen failing: a finished file was trusted by its name, and the manifest had the hash of the damaged bytes."""
    partial = tmp_path / "model.partial"
    partial.mkdir()
    for name in (WEIGHTS, "tokenizer.json"):
        (partial / name).write_bytes(hub.files[name][:-1] + b"~")
    for name in ("tokenizer.json", WEIGHTS):
        with pytest.raises(ValueError, match=f"{name} arrived with hash"):
            fetch_model(SECTION, tmp_path / "model", corpus)
    fetch_model(SECTION, tmp_path / "model", corpus)
    assert (tmp_path / "model" / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_without_a_network_the_pre_check_says_nothing(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"  # the discard port: refused at once
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert examine_model(SECTION, CORPUS) is None


def test_the_context_is_known_before_any_job(hub: FakeHub) -> None:
    """Seen failing: it was known for local models only."""
    assert examine_model(SECTION, CORPUS) == 1024


def test_an_encoder_on_the_hub_is_refused_before_any_job(hub: FakeHub, tmp_path: Path, corpus: Path) -> None:
    toy_config("bert").save_pretrained(tmp_path)
    in_hub(hub, tmp_path)
    words = f"{REPO} at {REVISION}: a bert model whose tokens attend to later ones, too"
    assert str(refusal(SECTION)).startswith(words)
    with pytest.raises(ValueError, match=words):
        fetch_model(SECTION, tmp_path / "model", corpus)
    assert not hub.gets(WEIGHTS), "nothing large was downloaded"


@pytest.fixture
def snapshot(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model in the hub's cache, where HF_HUB_OFFLINE is set."""
    home = tmp_path / "hub" / f"models--{REPO.replace('/', '--')}"
    folder = home / "snapshots" / REVISION
    folder.mkdir(parents=True)
    (home / "blobs").mkdir()
    for name, content in read_folder(llama_folder).items():
        blob = hashlib.sha256(content).hexdigest() if is_large(name) else git_blob(content)
        (home / "blobs" / blob).write_bytes(content)
        (folder / name).symlink_to(Path("../../blobs") / blob)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


def test_offline_the_hubs_cache_is_taken(snapshot: Path, llama_folder: Path, tmp_path: Path, corpus: Path) -> None:
    """Seen failing: "the connection broke, run again to resume"."""
    assert examine_model(SECTION, CORPUS) == 1024
    manifest = fetch_model(SECTION, tmp_path / "model", corpus)
    assert read_folder(tmp_path / "model") == read_folder(llama_folder)
    assert (manifest.origin, manifest.revision) == (REPO, REVISION)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            "all",
            r"model\.repo: HF_HUB_OFFLINE is set, and the hub's cache .* has no someone/tiny-llama at 0123456789ab; ",
        ),
        (WEIGHTS, r"model\.repo: HF_HUB_OFFLINE is set, and in the hub's cache .*: no weights; model\.safetensors or"),
        ("tokenizer.json", "tokenizer.json has hash .*, the hub promised "),
    ],
)
def test_offline_without_the_whole_model(damage: str, words: str, snapshot: Path, tmp_path: Path, corpus: Path) -> None:
    if damage == "all":
        shutil.rmtree(snapshot)
    elif damage == WEIGHTS:
        (snapshot / damage).unlink()
    else:
        (snapshot / damage).write_bytes((snapshot / damage).read_bytes() + b" ")
    with pytest.raises(ValueError, match=words) as caught:
        fetch_model(SECTION, tmp_path / "model", corpus)
    assert "\n" not in str(caught.value)
    if damage != "tokenizer.json":
        assert refusal(SECTION) == str(caught.value)
