"""WordNet 3.0 for METEOR. `python -m fires_exp.scores.wordnet [NLTK_DATA]` installs it from Debian's packages or NLTK's server.

NLTK refuses data that other users can write to, so the installed files are writable by their owner alone.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nltk
from hydra import compose, initialize_config_module
from nltk.corpus import wordnet

from fires_exp.config.load import register_schema
from fires_exp.errors import FiresError, ScoreError

COMMAND = "python -m fires_exp.scores.wordnet"
USER_ERROR = 2
TIMEOUT_SECONDS = 120
DEBIAN_PACKAGES = ("wordnet-base", "wordnet-sense-index")

# the lexicographer files in the order of their numbers in the database, with their part of speech (noun 1 to adverb 4); Debian's
# packages lack this list
_LEXNAMES = (
    (3, "adj.all adj.pert"),
    (4, "adv.all"),
    (1, "noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition noun.communication noun.event"),
    (1, "noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person noun.phenomenon noun.plant"),
    (1, "noun.possession noun.process noun.quantity noun.relation noun.shape noun.state noun.substance noun.time"),
    (2, "verb.body verb.change verb.cognition verb.communication verb.competition verb.consumption verb.contact verb.creation"),
    (2, "verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative verb.weather"),
    (3, "adj.ppl"),
)


def nltk_data(cache: Path) -> Path:
    """The folder that WordNet is installed to."""
    return cache / "nltk_data"


def load_wordnet(cache: Path) -> Any:
    """NLTK's reader, from the cache or any folder that NLTK searches. Raises `ScoreError` if WordNet is in none of them."""
    folder = str(nltk_data(cache))
    if folder not in nltk.data.path:
        nltk.data.path.append(folder)
    try:
        wordnet.ensure_loaded()
    except LookupError:
        raise ScoreError(f"WordNet is not installed; run: {COMMAND} {folder}") from None
    except OSError as error:
        raise ScoreError(f"WordNet can't be read ({error}); delete it and run: {COMMAND} {folder}") from None
    return wordnet


def set_up_wordnet(folder: Path) -> Path:
    """Install WordNet into an `nltk_data` folder and return its path. Raises `ScoreError` if no source can be reached."""
    target = folder / "corpora" / "wordnet"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    problems = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for source in (_from_debian, _from_nltk):
            try:
                unpacked = source(Path(scratch))
            except (OSError, subprocess.SubprocessError, ScoreError) as error:
                problems.append(str(error))
                continue
            for path in (folder, target.parent, unpacked, *unpacked.iterdir()):
                path.chmod(0o755 if path.is_dir() else 0o644)
            unpacked.rename(target)
            return target
    raise ScoreError(
        f"WordNet can't be downloaded ({'; '.join(problems)}): run {COMMAND} again with a network connection, or unpack NLTK's "
        f"wordnet.zip into {target.parent}"
    )


def _from_debian(scratch: Path) -> Path:
    """The two packages, unpacked instead of installed, so that no root rights are needed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ScoreError("no apt-get")
    _run("apt-get", "download", *DEBIAN_PACKAGES, folder=scratch)
    for package in scratch.glob("*.deb"):
        _run("dpkg-deb", "-x", str(package), str(scratch), folder=scratch)
    unpacked = scratch / "usr" / "share" / "wordnet"
    names = [(name, part) for part, names in _LEXNAMES for name in names.split()]
    lines = (f"{number:02d}\t{name}\t{part}\n" for number, (name, part) in enumerate(names))
    (unpacked / "lexnames").write_text("".join(lines), encoding="ascii")
    return unpacked


def _from_nltk(scratch: Path) -> Path:
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        if not nltk.download("wordnet", download_dir=str(scratch), quiet=True):
            raise ScoreError("NLTK's server can't be reached")
    finally:
        socket.setdefaulttimeout(timeout)
    archive = scratch / "corpora" / "wordnet.zip"
    if not (scratch / "corpora" / "wordnet").is_dir():
        shutil.unpack_archive(archive, scratch / "corpora")
    return scratch / "corpora" / "wordnet"


def _run(*command: str, folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=TIMEOUT_SECONDS)
    except subprocess.CalledProcessError as error:
        raise ScoreError(f"{command[0]}: {error.stderr.strip().splitlines()[-1] if error.stderr.strip() else 'failed'}") from None


def main(arguments: list[str]) -> int:
    """Exit status 0 if WordNet is installed, otherwise 2 and one line."""
    if len(arguments) > 1:
        print(f"usage: {COMMAND} [NLTK_DATA]", file=sys.stderr)
        return USER_ERROR
    try:
        print(f"WordNet: {set_up_wordnet(Path(arguments[0]).expanduser() if arguments else _default_folder())}")
    except FiresError as error:
        print(f"fires_exp: {error}", file=sys.stderr)
        return USER_ERROR
    return 0


def _default_folder() -> Path:
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        return nltk_data(Path(compose("config").paths.cache).expanduser())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
