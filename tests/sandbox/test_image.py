"""Images: what is found whole is whole, what is not is named, and builds harm neither each other nor who uses an image.

Most tests build a tiny set, one pure-Python wheel made here, without a network; the installers are the real ones.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

from belljar.cli.image import image as command
from belljar.errors import ImageError
from belljar.sandbox import image_build, image_install
from belljar.sandbox.image import BrokenImage, Image, find_image, hold, home, list_images
from belljar.sandbox.image_build import build_image, remove_image
from belljar.sandbox.image_check import check_image

NAME = "tiny"
THREADED = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
LOCKED = Path(image_build.__file__).parent / "images/default.lock"


def make_wheel(folder: Path, name: str, version: str = "1.0", **modules: str) -> str:
    """Write a wheel of modules (name -> source) and return its requirement with its hash."""
    info = f"{name}-{version}.dist-info"
    files = {f"{module}.py": source for module, source in modules.items()}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    rows = [f"{path},sha256={digest(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="session")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of one package, with a second one at hand to add."""
    folder = tmp_path_factory.mktemp("definitions")
    lock = make_wheel(folder, "tinypkg", tinypkg="value = 1\n", tinythread=THREADED, tinyenv="import os\n")
    make_wheel(folder, "extrapkg", "2.0", extrapkg="value = 2\n")
    (folder / "default.lock").write_text(lock)
    (folder / "default.in").write_text("tinypkg\n")
    settings = 'preload = ["json", "tinypkg", "tinythread", "tinyenv"]\n[environment]\nTINY_SETTING = "set"\n'
    (folder / "default.toml").write_text(settings)
    return folder


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, definitions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of its own, the tiny set, and packages from its folder only."""
    monkeypatch.setenv("BELLJAR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(image_build, "DEFINITIONS", definitions)
    for variable in ("PIP_NO_INDEX", "UV_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.setenv(variable, "1")
    for variable in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(variable, str(definitions))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def build(name: str = NAME, **options: Any) -> Image:
    return build_image(name, progress=options.pop("progress", lambda line: None), **options)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the home of the first image is kept that `built` has built."""
    return tmp_path_factory.mktemp("kept") / "home"


@pytest.fixture
def built(kept: Path) -> Image:
    """A whole image, for tests of what comes after its building: they get copies of one."""
    if kept.exists():
        shutil.copytree(kept, home(), symlinks=True)
    else:
        build()
        shutil.copytree(home(), kept, symlinks=True)
    return find_image(NAME)


def manifest_of(name: str = NAME) -> Path:
    return home() / "images" / f"{name}.json"


def folders() -> list[str]:
    return sorted(path.name for path in (home() / "images").iterdir() if path.is_dir())


# --- a whole image ----------------------------------------------------------------------------------------------------


def test_a_build_makes_what_find_image_returns() -> None:
    built = build()
    assert find_image(NAME) == built
    assert list_images() == [built]
    assert built.packages == {"tinypkg": "1.0"}
    assert built.python == built.path / "venv/bin/python"
    assert str(built.base_prefix) == sys.base_prefix
    assert (built.site_packages / "tinypkg.py").is_file()
    assert set(built.import_ms) == {"json", "tinypkg", "tinyenv"}
    assert built.size > 0
    assert check_image(NAME) == []


def test_what_starts_a_thread_is_left_out_of_the_preload() -> None:
    lines: list[str] = []
    assert build(progress=lines.append).preload == ("json", "tinypkg", "tinyenv")
    assert any("tinythread starts a thread" in line for line in lines)


def test_the_interpreter_sets_the_image_environment_by_itself() -> None:
    built = build()
    code = [str(built.python), "-I", "-c", "import os; print(os.environ['TINY_SETTING'])"]
    assert subprocess.run(code, capture_output=True, text=True, check=True).stdout == "set\n"


def test_bytecode_is_unchecked_even_when_python_is_told_to_write_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (bytecode,) = (build().site_packages / "__pycache__").glob("tinypkg.*.pyc")
    assert bytecode.read_bytes()[4:8] == b"\x01\x00\x00\x00"  # PEP 552: hash-based, not checked


def test_everyone_can_read_an_image_whatever_the_umask() -> None:
    before = os.umask(0o077)
    try:
        built = build()
    finally:
        os.umask(before)
    paths = [home(), built.path.parent, manifest_of(), built.path, *built.path.rglob("*")]
    closed = [path for path in paths if not path.is_symlink() and not path.stat().st_mode & 0o004]
    assert closed == []


def test_no_installer_is_left_in_an_image(built: Image) -> None:
    names = {path.name for path in built.path.rglob("*")}
    assert not {"pip", "setuptools", "wheel", "tools"} & names


def test_an_up_to_date_image_is_not_built_again_and_force_builds_it() -> None:
    first, lines = build(), list[str]()
    started = time.monotonic()
    assert build(progress=lines.append) == first
    assert time.monotonic() - started < 1
    assert len(lines) == 1
    assert "up to date" in lines[0]
    forced = build(force=True)
    assert forced.built >= first.built
    assert folders() == [forced.path.name]


def test_additions_are_resolved_locked_and_recorded(tmp_path: Path) -> None:
    listed = tmp_path / "wanted.txt"
    listed.write_text("# a comment\nextrapkg >= 1  # and another\n")
    built = build(requirements=listed)
    assert built.packages == {"extrapkg": "2.0", "tinypkg": "1.0"}
    assert built.requirements == ("extrapkg >= 1",)
    assert "sha256:" in (built.path / "requirements.lock").read_text()
    assert build(requirements=listed) == built
    assert build(with_=["extrapkg"]).requirements == ("extrapkg",)


@pytest.mark.parametrize("bad", ["--index-url=x", "", "a\nb"])
def test_an_addition_that_is_an_option_is_refused(bad: str) -> None:
    with pytest.raises(ImageError, match="no requirement"):
        build(with_=[bad])


def test_an_addition_against_the_locked_versions_is_refused_and_leaves_nothing() -> None:
    with pytest.raises(ImageError, match=r"together|no wheel|could not be reached"):
        build(with_=["tinypkg==3.0"])
    assert folders() == []


def test_pip_takes_over_when_uv_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin/uv"
    broken.parent.mkdir()
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo uv 9.9 || { echo dns error >&2; exit 1; }\n')
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    lines: list[str] = []
    built = build(with_=["extrapkg"], progress=lines.append)
    assert built.packages == {"extrapkg": "2.0", "tinypkg": "1.0"}
    assert any("uv failed: the package index could not be reached" in line for line in lines)


def test_a_wrong_hash_is_refused_and_leaves_nothing(
    tmp_path: Path, definitions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in definitions.glob("default.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "default.lock").write_text(f"tinypkg==1.0 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(image_build, "DEFINITIONS", tmp_path)
    with pytest.raises(ImageError, match="hash differs"):
        build()
    assert folders() == []


# --- what is wrong is named -------------------------------------------------------------------------------------------


def lose_interpreter(built: Image) -> None:
    built.python.unlink()
    built.python.symlink_to(built.path / "nowhere/python3")


def change_interpreter(built: Image) -> None:
    built.python.unlink()
    built.python.symlink_to("/bin/sh")


def lose_metadata(built: Image) -> None:
    metadata = built.site_packages / "tinypkg-1.0.dist-info"
    metadata.rename(built.path / "elsewhere")


def edit_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Image], None]:
    def damage(built: Image) -> None:
        manifest = json.loads(manifest_of().read_text())
        change(manifest)
        manifest_of().write_text(json.dumps(manifest))

    return damage


def replaced_by_another_version(manifest: dict[str, Any]) -> None:
    manifest["python"] |= {"fingerprint": [1, 1], "version": "3.2.1"}


DAMAGES: list[tuple[str, Callable[[Image], object], str]] = [
    ("interpreter gone", lose_interpreter, "interpreter .* is gone"),
    ("interpreter is another", change_interpreter, "interpreter is now"),
    ("interpreter of another version", edit_manifest(replaced_by_another_version), "was built for cpython 3.2 and"),
    ("dist-info gone", lose_metadata, "lacks tinypkg-1.0.dist-info"),
    ("module gone", lambda built: (built.site_packages / "tinypkg.py").unlink(), "lacks tinypkg.py"),
    ("site-packages gone", lambda built: built.site_packages.rename(built.path / "x"), "site-packages is gone"),
    ("folder gone", lambda built: built.path.rename(built.path.parent / "x"), "is gone"),
    ("standard library gone", edit_manifest(lambda m: m["python"].update(stdlib="/nowhere")), "standard library"),
    ("another schema", edit_manifest(lambda m: m.update(schema=99)), "schema 99"),
    ("manifest incomplete", edit_manifest(lambda m: m.pop("python")), "unreadable manifest"),
    ("manifest cut short", lambda built: manifest_of().write_text('{"schema": 1,'), "unreadable manifest"),
    ("manifest no object", lambda built: manifest_of().write_text("[]"), "unreadable manifest"),
    ("folder elsewhere", edit_manifest(lambda m: m.update(folder="../../etc")), "unreadable manifest"),
]


@pytest.mark.parametrize(("damage", "reason"), [case[1:] for case in DAMAGES], ids=[case[0] for case in DAMAGES])
def test_a_damaged_image_is_named_never_used_and_mended(
    built: Image, damage: Callable[[Image], object], reason: str
) -> None:
    damage(built)
    with pytest.raises(ImageError, match=rf"image 'tiny' .*{reason}.*run: belljar image build tiny"):
        find_image(NAME)
    assert [type(found) for found in list_images()] == [BrokenImage]
    assert build() == find_image(NAME)


def test_a_patch_of_the_same_python_is_no_damage(built: Image) -> None:
    edit_manifest(lambda manifest: manifest["python"].update(fingerprint=[1, 1]))(built)
    assert find_image(NAME) == built


def test_a_missing_image_is_named_with_the_command_that_makes_it() -> None:
    with pytest.raises(ImageError, match=r"does not exist in .*; run: belljar image build default"):
        find_image()
    with pytest.raises(ImageError, match="no valid name"):
        find_image("../x")
    assert list_images() == []


def test_a_half_built_folder_is_no_image_and_the_next_build_removes_it() -> None:
    half = home() / "images/tiny-0123456789ab/venv"
    half.mkdir(parents=True)
    (half.parent / ".in-use").touch()
    with pytest.raises(ImageError, match="half-built"):
        find_image(NAME)
    assert [found.name for found in list_images() if isinstance(found, BrokenImage)] == [NAME]
    built = build()
    assert folders() == [built.path.name]


def test_a_killed_build_is_half_built_not_an_image(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom belljar.sandbox import image_build\n"
        "image_build.DEFINITIONS = Path(sys.argv[1])\nimage_build._compile = lambda *_: os.kill(os.getpid(), 9)\n"
        "image_build.build_image('tiny', progress=print)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    killed = subprocess.run([sys.executable, "-c", code, str(image_build.DEFINITIONS)], env=environment, check=False)
    assert killed.returncode == -9
    assert len(folders()) == 1
    with pytest.raises(ImageError, match="half-built"):
        find_image(NAME)
    assert folders() == [build().path.name]


def test_a_build_going_on_is_said_to_go_on(tmp_path: Path) -> None:
    (home() / "images").mkdir(parents=True)
    with (home() / "images/.tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ImageError, match="being built right now"):
            find_image(NAME)


# --- the deep check ---------------------------------------------------------------------------------------------------


def test_the_deep_check_finds_a_file_cut_short(built: Image) -> None:
    module = built.site_packages / "tinypkg.py"
    os.truncate(module, 4)
    problems = check_image(NAME)
    assert any("tinypkg.py has 4 bytes instead of 10" in problem for problem in problems)
    assert any("is not what tinypkg-1.0.dist-info installed" in problem for problem in problems)


def test_the_deep_check_finds_changed_bytecode_added_files_and_lost_ones(built: Image) -> None:
    (bytecode,) = (built.site_packages / "__pycache__").glob("tinypkg.*.pyc")
    content = bytearray(bytecode.read_bytes())
    content[-1] ^= 1
    bytecode.write_bytes(content)
    (built.site_packages / "planted.pth").touch()
    (built.path / "venv/pyvenv.cfg").chmod(0o644)
    (built.site_packages / "tinypkg-1.0.dist-info/METADATA").unlink()
    text = "\n".join(check_image(NAME))
    assert f"{bytecode.name} has changed" in text
    assert "planted.pth does not belong to the image" in text
    assert "METADATA is gone" in text


def test_the_deep_check_imports_the_preload(built: Image) -> None:
    edit_manifest(lambda manifest: manifest.update(preload=["tinythread", "no_such_module"]))(built)
    text = "\n".join(check_image(NAME))
    assert "import tinythread starts a thread" in text
    assert "import no_such_module fails: ModuleNotFoundError" in text


# --- several at once --------------------------------------------------------------------------------------------------


def test_two_builds_at_once_make_one_image() -> None:
    results: list[Image] = []
    threads = [Thread(target=lambda: results.append(build())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2
    assert results[0] == results[1] == find_image(NAME)
    assert check_image(NAME) == []


def test_a_superseded_folder_stays_while_it_is_held(built: Image) -> None:
    lines: list[str] = []
    with hold(built) as first:
        second = build(force=True, progress=lines.append)
        assert second.path != first.path
        assert folders() == sorted([first.path.name, second.path.name])
        assert any(f"kept {first.path.name}" in line for line in lines)
        assert find_image(NAME) == second
    third = build(force=True)
    assert folders() == [third.path.name]


def test_holding_an_image_that_was_replaced_holds_the_newer_one(built: Image) -> None:
    with hold(built):
        second = build(force=True)
    third = build(with_=["extrapkg"])
    with hold(second) as held:
        assert held == third
    assert folders() == [third.path.name]


def test_removing_keeps_what_is_held(built: Image) -> None:
    with hold(built) as held:
        assert remove_image(NAME) == [held.path]
        assert held.python.exists()
        with pytest.raises(ImageError):
            find_image(NAME)
    assert remove_image(NAME) == []
    assert folders() == []
    with pytest.raises(ImageError, match="no image 'tiny'"):
        remove_image(NAME)
    with pytest.raises(ImageError), hold(held):
        pass


def test_images_of_names_that_begin_alike_do_not_touch_each_other() -> None:
    longer = build("tiny-0123456789ab")
    build(NAME)
    build(NAME, force=True)
    assert find_image("tiny-0123456789ab") == longer
    remove_image(NAME)
    assert check_image("tiny-0123456789ab") == []


# --- commands and text ------------------------------------------------------------------------------------------------


@pytest.fixture
def invoke() -> Callable[..., tuple[int, str]]:
    def call(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(command, arguments)
        return result.exit_code, result.output

    return call


def test_the_commands_and_their_exit_codes(invoke: Callable[..., tuple[int, str]]) -> None:
    assert invoke("check", NAME)[0] == 3
    assert invoke("build", NAME)[0] == 0
    assert "up to date" in invoke("build", NAME)[1]
    assert invoke("check", NAME) == (0, "image tiny is whole\n")
    assert invoke("path", NAME) == (0, f"{find_image(NAME).path}\n")
    (listed,) = json.loads(invoke("list", "--json")[1])
    assert (listed["name"], listed["usable"]) == (NAME, True)
    (find_image(NAME).site_packages / "planted.pth").touch()
    code, output = invoke("check", NAME)
    assert (code, "run: belljar image build tiny --force" in output) == (3, True)
    manifest_of().unlink()
    assert "BROKEN" in invoke("list")[1]
    assert invoke("remove", NAME) == (0, "removed image tiny\n")
    assert invoke("build", "Not A Name")[0] == 2
    assert invoke("build", "--requirements", "/nowhere/at/all")[0] == 2


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"BELLJAR_HOME": "/a", "XDG_DATA_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_DATA_HOME": "/b", "HOME": "/c"}, "/b/belljar"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/c"}, "/c/.local/share/belljar"),
        ({"HOME": "/c"}, "/c/.local/share/belljar"),
    ],
)
def test_home(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BELLJAR_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert str(home()) == expected
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # root's own home is closed to the ids of sandboxes
    assert str(home()) == (expected if not expected.startswith("/c") else "/var/lib/belljar")


@pytest.mark.parametrize(
    ("output", "meaning", "final"),
    [
        ("error: client error (Connect)\n dns error: failed to lookup", "could not be reached", False),
        ("THESE PACKAGES DO NOT MATCH THE HASHES", "hash differs", True),
        ("invalid peer certificate: UnknownIssuer", "not trusted", False),
        ("OSError: [Errno 28] No space left on device", "disk is full", True),
        ("ERROR: ResolutionImpossible", "cannot be installed together", True),
        ("ERROR: No matching distribution found for x", "no wheel", False),
        ("gibberish", "uv pip ended with status 1", False),
    ],
)
def test_what_an_installer_says_is_explained(output: str, meaning: str, final: bool) -> None:
    error = image_install.failure(["uv", "pip"], 1, output)
    assert meaning in str(error)
    assert output.splitlines()[-1] in str(error)
    assert isinstance(error, image_install.Refused) == final


def test_what_pip_reports_without_a_hash_is_refused() -> None:
    source = {"url": "git+ssh://somewhere/x", "vcs_info": {}}
    report = {"install": [{"metadata": {"name": "x", "version": "1"}, "download_info": source}]}
    with pytest.raises(image_install.InstallFailed, match="x has no hash"):
        image_install.pip_lock(report)


def test_a_command_that_does_not_end_is_stopped() -> None:
    with pytest.raises(image_install.InstallFailed, match="no end after"):
        image_install.run(["sleep", "60"], timeout=0.1)


def test_the_lock_pins_with_hashes_and_names_no_host() -> None:
    text = LOCKED.read_text()
    assert "://" not in text
    entries = [entry for entry in text.replace("\\\n", "").splitlines() if not entry.startswith("#")]
    assert len(entries) > 80
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)
