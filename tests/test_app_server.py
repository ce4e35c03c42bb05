"""The app's server, over HTTP: its API, what it gives out and to whom, how it begins and ends."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from carvid.app.desk import Desk
from carvid.app.limits import Limits
from carvid.app.models import Models
from carvid.app.server import UPLOADS, Server, listening, workspace
from carvid.base.errors import ConfigError
from carvid.demo.example import TEXT, example_folder
from tests.conftest import carvid as command

ROOT = Path(__file__).parent.parent
EXAMPLE = example_folder() / "dog-jumping.mp4"
PART = {"end_s": 0.3}
"""Of the example: 8 frames."""


def importing_gradio() -> Any:
    """Gradio, whose own import warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("gradio", reason="the extra 'app' is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    importing_gradio()
    desk = Desk(
        tmp_path_factory.mktemp("work"),
        limits=Limits(upload_mb=2, frames=60),
        models=Models("tiny"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Server(desk, port=0) as server:
            yield server


@pytest.fixture(autouse=True, scope="module")
def nothing_left() -> Iterator[None]:
    """Event loops that clients leave open are collected here, and not in the tests of others."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    yield new_client(server)


def new_client(server: Server) -> Any:
    from gradio_client import Client

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Client(server.url, verbose=False)


def get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def post(url: str, values: Any) -> tuple[int, bytes]:
    data = json.dumps(values).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_api_finds_shows_and_exports(client: Any) -> None:
    from gradio_client import handle_file

    facts = client.predict(handle_file(str(EXAMPLE)), **PART, api_name="/open_clip")
    assert facts == {"frames": 8, "width": 640, "height": 360, "frame_rate": 24.0}
    found = client.predict([TEXT, "a cat"], api_name="/find")
    assert found["expressions"][0]["frames_found"] == 8
    thing = client.predict(1, "Rex", "#00ff00", api_name="/rename")
    assert thing["name"] == "Rex" and thing["label"] == 1
    picture = client.predict(3, api_name="/frame")
    assert Path(picture).read_bytes().startswith(b"\xff\xd8")
    exported = Path(client.predict("coco", api_name="/export"))
    names = [each["name"] for each in json.loads(exported.read_text())["categories"]]
    assert names == ["Rex", "a cat"]
    assert client.predict(api_name="/prepare") == {"key_frames": 2}
    spans = [
        client.predict([TEXT], theta, api_name="/ask")["expressions"][0]["spans"]
        for theta in (0.0, 1.0)
    ]
    assert spans == [[[0, 8]], []]
    assert client.predict(api_name="/close") == {}


def test_what_is_wrong_comes_as_one_line(client: Any, tmp_path: Path) -> None:
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing" * 1000)
    for arguments, name, words in (
        ([[TEXT]], "/find", "open a clip first"),
        ([handle_file(str(bad))], "/open_clip", "cannot read 'bad.mp4'"),
        ([3], "/frame", "open a clip first"),
        (["nonsense"], "/export", "open a clip first"),
    ):
        with pytest.raises(AppError, match=words) as caught:
            client.predict(*arguments, api_name=name)
        assert "\n" not in str(caught.value)
    client.predict(api_name="/open_example")
    with pytest.raises(AppError, match="empty"):
        client.predict([""], api_name="/find")


def test_two_clients_do_not_see_each_other(server: Server) -> None:
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    first, second = new_client(server), new_client(server)
    first.predict(handle_file(str(EXAMPLE)), **PART, api_name="/open_clip")
    with pytest.raises(AppError, match="open a clip first"):
        second.predict(0, api_name="/frame")
    second.predict(handle_file(str(EXAMPLE)), 0.0, 0.2, api_name="/open_clip")
    answers: dict[str, Any] = {}

    def find(name: str, client: Any, text: str) -> None:
        answers[name] = client.predict([text], api_name="/find")

    threads = [
        threading.Thread(target=find, args=("first", first, TEXT)),
        threading.Thread(target=find, args=("second", second, "a cat")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers["first"]["frames"] == 8 and answers["second"]["frames"] == 5
    assert answers["second"]["expressions"][0]["text"] == "a cat"


def test_a_client_cancels_what_it_has_begun(server: Server) -> None:
    from gradio_client.exceptions import AppError

    client = new_client(server)
    client.predict(api_name="/open_example")
    session = server.sessions.of(client.session_hash)
    opening = session.job
    job = client.submit([TEXT], api_name="/find")
    while session.job is opening or (session.job and session.job.frames < 2):
        time.sleep(0.01)
    assert client.predict(api_name="/cancel") == {"cancelled": True}
    with pytest.raises(AppError, match="cancelled"):
        job.result(timeout=60)
    found = client.predict([TEXT], api_name="/find")
    assert found["frames"] == 48


def test_no_file_of_this_machine_is_opened_or_given_out(server: Server, tmp_path: Path) -> None:
    """Also not by clients that say that it was uploaded, which Gradio, mounted, would believe."""
    secret = tmp_path / "secret.txt"
    secret.write_text("nobody should read this")
    inside = server.desk.root / "somebody" / "clip.mp4"
    inside.parent.mkdir(exist_ok=True)
    inside.write_bytes(EXAMPLE.read_bytes())
    uploads = server.desk.root / UPLOADS
    (uploads / "link").unlink(missing_ok=True)
    (uploads / "link").symlink_to(secret)
    call = server.url + "gradio_api/call/open_clip"
    for path in (
        str(secret), str(inside), f"{uploads}/../somebody/clip.mp4", f"{uploads}/link",
        "/etc/passwd", "https://example.org/clip.mp4", "\0", "",
    ):  # fmt: skip
        for given in ({"path": path, "meta": {"_type": "gradio.FileData"}}, {"path": path}):
            status, body = post(call, {"data": [given, 0, None, 1, 0]})
            if status == 200:
                event = json.loads(body)["event_id"]
                status, body = get(f"{call}/{event}")
            assert b"event: complete" not in body, path
    assert secret.is_file() and inside.is_file()
    for path in (str(secret), str(inside), f"{uploads}/link", "/etc/passwd", "pyproject.toml"):
        for route in ("gradio_api/file=", "file=", "static/", "carvid/x/file/"):
            status, body = get(server.url + route + path)
            assert status in (403, 404, 405), (route, path)
            assert b"nobody should" not in body and b"root:" not in body
    (uploads / "link").unlink()


def test_nothing_is_fetched_from_elsewhere(server: Server) -> None:
    for path in ("file=http://127.0.0.1:1/x", "file=https%3A//127.0.0.1:1/x", "proxy=http://a/b"):
        assert get(server.url + "gradio_api/" + path)[0] == 403
    status, page = get(server.url)
    assert status == 200 and b"fonts.googleapis" not in page and b"cdn" not in page.lower()
    assert get(server.url, Host="evil.example")[0] == 403
    assert get(server.url, Origin="http://evil.example")[0] == 403
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_what_is_uploaded_is_bounded(server: Server, tmp_path: Path) -> None:
    from gradio_client import handle_file

    large = tmp_path / "large.mp4"
    large.write_bytes(b"x" * 2_500_000)
    client = new_client(server)
    with pytest.raises(Exception, match=r"(?i)413|too large|exceed|size"):
        client.predict(handle_file(str(large)), api_name="/open_clip")
    assert not [path for path in (server.desk.root / UPLOADS).rglob("*large*") if path.is_file()]


def test_pictures_come_one_at_a_time_to_who_knows_the_token(server: Server) -> None:
    client = new_client(server)
    client.predict(api_name="/open_example")
    session = server.sessions.of(client.session_hash)
    base = f"{server.url}carvid/{session.token}/"
    status, body = get(base + "frame/12.jpg?side=320")
    assert status == 200 and body.startswith(b"\xff\xd8") and len(body) < 60_000
    state = json.loads(get(base + "state")[1])
    assert state["clip"]["frames"] == 48 and state["token"] == session.token
    for query, words in (
        ("frame/48.jpg", b"frames 0 to 47"), ("frame/1.jpg?source=x", b"source"),
        ("frame/1.jpg?show=a", b"numbers"), ("frame/1.jpg?theta=nan", b"number"),
        ("frame/1.jpg?source=quick&theta=2", b"\xce\xb8 must be"),
    ):  # fmt: skip
        status, body = get(base + query)
        assert status == 422 and words in body, query
    assert get(base + "file/run.json")[0] == 404
    assert get(f"{server.url}carvid/guess/state")[0] == 404
    assert get(f"{server.url}carvid/guess/frame/0.jpg")[0] == 404


# How it begins and ends


def test_a_port_that_is_in_use_is_told(tmp_path: Path) -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port}.*--port"):
            listening("127.0.0.1", port)
    with pytest.raises(ConfigError, match="cannot listen"):
        listening("203.0.113.7", 0)


def test_a_temporary_workspace_goes_and_a_chosen_one_stays(tmp_path: Path) -> None:
    with workspace(None) as folder:
        (folder / "clip").mkdir()
    assert not folder.exists()
    with workspace(tmp_path / "projects") as folder:
        (folder / "clip").mkdir()
        (folder / UPLOADS).mkdir()
    assert (folder / "clip").is_dir() and not (folder / UPLOADS).exists()


def test_wrong_options_are_told_before_anything_is_served() -> None:
    for options, words in (
        (["--preset", "nonsense"], "nonsense"),
        (["--set", "car.thet=1"], "did you mean"),
        (["--max-frames", "0"], "frames must be"),
    ):
        ended = command("app", "--no-show", *options)
        assert ended.returncode == 1 and words in ended.stderr and not ended.stdout


def test_a_missing_extra_and_an_open_host_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    ended = command("app", "--no-show", "--port", "0", "--host", "0.0.0.0")
    assert ended.returncode == 1 and "pip install 'carvid[app]'" in ended.stderr
    assert "without a password" in ended.stderr
    assert "password" not in command("app", "--no-show", "--port", "0").stderr


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    importing_gradio()
    out = tmp_path / "projects"
    words = [sys.executable, "-m", "carvid", "app", "--no-show", "--port", "0", "-o", str(out)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as app:
        assert app.stdout is not None and app.stderr is not None
        url = app.stdout.readline().strip()
        assert get(url)[0] == 200
        app.send_signal(signal.SIGINT)
        assert app.wait(15) == 130
        said = app.stderr.read()
    assert "Traceback" not in said and str(out) in said, said
    assert out.is_dir() and not (out / UPLOADS).exists()


# What is written of it


def test_the_snippet_of_the_documentation_works(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from carvid.app.api import Api

    page = (ROOT / "docs/app.md").read_text(encoding="utf-8")
    code = (
        page.split("```python\n")[1].split("```")[0].replace("http://127.0.0.1:7860/", server.url)
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(EXAMPLE.read_bytes())
    names: dict[str, Any] = {}
    exec(code, names)
    assert Path(names["video"]).name == "overlay.mp4" and Path(names["coco"]).is_file()
    assert "the white dog" in capsys.readouterr().out
    endpoints = {function.__name__ for function in Api(server.sessions, tmp_path).endpoints()}
    assert endpoints == set(re.findall(r"`/(\w+)`", page.split("| Endpoint |")[1]))


def test_a_space_needs_what_carvid_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["app"]]
    listed = (ROOT / "examples/space/requirements.txt").read_text().split()
    assert set(listed) == {each.split(";")[0].strip() for each in needed}
    head = yaml.safe_load((ROOT / "examples/space/README.md").read_text().split("---")[1])
    assert head["sdk"] == "gradio" and (ROOT / "examples/space" / head["app_file"]).is_file()
    pinned = next(each for each in project["optional-dependencies"]["dev"] if "gradio" in each)
    assert pinned == f"gradio=={head['sdk_version']}"


def test_a_space_serves_in_public_and_opens_no_paths(tmp_path: Path) -> None:
    importing_gradio()
    for name in ("examples/space/app.py", "carvid", "configs", "examples/dog-jumping.mp4"):
        target = tmp_path / ("app.py" if name.endswith(".py") else name)
        target.parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    with listening("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    paths = [path for path in sys.path if Path(path).name == "site-packages"]
    environment = os.environ | {"PORT": str(port), "CARVID_PRESET": "tiny",
                                "PYTHONPATH": os.pathsep.join([str(tmp_path), *paths])}  # fmt: skip
    words = [sys.executable, str(tmp_path / "app.py")]
    with subprocess.Popen(words, cwd=tmp_path, env=environment) as space:
        try:
            url, deadline_s = f"http://127.0.0.1:{port}/", time.monotonic() + 40
            while not is_served(url):
                assert space.poll() is None and time.monotonic() < deadline_s
                time.sleep(0.2)
            status, page = get(url, Host="owner-name.hf.space")
            assert status == 200 and b"cv-path" not in page and b"600 frames" in page
        finally:
            space.kill()


def is_served(url: str) -> bool:
    try:
        return get(url)[0] == 200
    except OSError:
        return False
