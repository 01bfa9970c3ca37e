"""The lines with curl that commands print, to be pasted in the folder of the repository."""

import shlex
from pathlib import Path

from archive.repository import ROOT
from scripts.torchserve.archives import Sample
from scripts.torchserve.configuration import write_config
from scripts.torchserve.curl import predict_command, token_header
from scripts.torchserve.server import Server


def test_the_token_is_that_of_the_server(tmp_path: Path) -> None:
    shipped = token_header(Server(ROOT), "management")
    assert shipped == '-H "Authorization: Bearer $(.venv/bin/python -m scripts.tokens management)"'
    home = tmp_path / "a b"
    home.mkdir()
    write_config(home)
    assert f"-m scripts.tokens inference --home '{home}')" in token_header(Server(home), "inference")


def test_the_files_of_a_sample_are_written_next_to_the_server(tmp_path: Path) -> None:
    write_config(tmp_path)
    server = Server(tmp_path)
    folder = tmp_path / "build" / "samples" / "mine"
    folder.mkdir(parents=True)
    (folder / "x.json").symlink_to(tmp_path / "elsewhere")
    line = predict_command(server, "mine", Sample(parts={"x.json": b"[1]"}))
    assert shlex.split(line)[-3:] == ["-F", f"x=@{folder}/x.json", f"{server.address('inference')}/predictions/mine"]
    assert (folder / "x.json").read_bytes() == b"[1]" and not (tmp_path / "elsewhere").exists()
    line = predict_command(server, "mine", Sample(body=b"{}"))
    assert f"--data-binary @{folder}/body.json" in line and (folder / "body.json").read_bytes() == b"{}"
