"""Which versions are served: they are found in the folder; calls only where they are allowed."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import shutil
import weakref
from http.client import HTTPConnection
from pathlib import Path

import pytest
import serving_exports as exports

pytest.importorskip("tritonclient", reason="needs the extra serve")

import grpc
import serving_load as load
from serving_inside import HOST, Serving, serving
from tritonclient.grpc import service_pb2 as pb

from bnzoo.errors import InputError
from bnzoo.serving.layout import exported_models
from bnzoo.serving.server import repository as repository_module
from bnzoo.serving.server.http_app import HttpApp
from bnzoo.serving.server.limits import Refused
from bnzoo.serving.server.repository import Repository


class Loader:
    """Stands in for loading: a model is the content of its graph's file."""

    def __init__(self):
        self.loaded = []

    def __call__(self, name, version, folder):
        content = (folder / "saved_model.pb").read_text()
        self.loaded.append((name, version, content))
        if content == "broken":
            raise InputError(f"{folder}: it is broken.")
        if content == "odd":
            raise LookupError("no such\nthing. It is odd.")
        return content


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


def put(folder: Path, content="good") -> Path:
    """Make what looks like a version; `content` is what its model is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_text(content)
    return folder


def scanned(root, loader):
    """Return a repository that has looked at the folder once."""
    repository = Repository(root, loader)
    scan(repository)
    return repository


def scan(repository):
    asyncio.run(repository.scan())


def served(repository):
    """Return what is served: the content of each model, by name and version."""
    return {
        f"{name}/{version}": repository.get(name, version)[1]
        for name in repository.loaded()
        for version in repository.loaded(name)
    }


# --- names and links -----------------------------------------------------------------------------


def test_a_linked_model_has_the_name_of_the_link(root, loader, tmp_path):
    put(tmp_path / "elsewhere" / "models_v7" / "3", "seventh")
    (root / "prod").symlink_to(tmp_path / "elsewhere" / "models_v7")
    assert served(scanned(root, loader)) == {"prod/3": "seventh"}
    assert served(scanned(root / "prod", loader)) == {"prod/3": "seventh"}
    assert served(scanned(root / "prod" / "3", loader)) == {"prod/3": "seventh"}


def test_a_linked_version_has_the_number_of_the_link(root, loader):
    put(root / "mine" / "1", "mine")
    put(root / "other" / "1", "other")
    (root / "mine" / "2").symlink_to("../other/1")
    repository = scanned(root, loader)
    assert served(repository) == {"mine/1": "mine", "mine/2": "other", "other/1": "other"}
    assert repository.get("mine") == ("2", "other")


def test_a_link_to_nowhere_or_to_itself_is_no_version(root, loader):
    put(root / "mine" / "1")
    (root / "mine" / "2").symlink_to("gone")
    (root / "mine" / "3").symlink_to("3")
    (root / "loop").symlink_to("loop")
    assert served(scanned(root, loader)) == {"mine/1": "good"}


def test_a_link_that_leads_elsewhere_is_loaded_again(root, loader, tmp_path):
    put(tmp_path / "a" / "1", "first")
    put(tmp_path / "b" / "1", "later")
    for linked in (root / "model", root / "versions" / "1"):
        linked.parent.mkdir(exist_ok=True)
        target = tmp_path / "a" if linked.name == "model" else tmp_path / "a" / "1"
        linked.symlink_to(target)
    repository = scanned(root, loader)
    assert served(repository) == {"model/1": "first", "versions/1": "first"}
    for linked in (root / "model", root / "versions" / "1"):
        target = Path(str(linked.readlink()).replace("/a", "/b"))
        linked.unlink()
        linked.symlink_to(target)
    scan(repository)
    assert served(repository) == {"model/1": "later", "versions/1": "later"}


def test_the_newest_version_is_the_largest_number(root, loader):
    for number in (2, 10, 9):
        put(root / "m" / str(number), str(number))
    repository = scanned(root, loader)
    assert repository.loaded("m") == ["2", "9", "10"]
    assert repository.get("m") == ("10", "10")


# --- what comes, changes and goes ----------------------------------------------------------------


def test_half_a_version_beside_good_ones_does_not_keep_them_from_being_served(root, loader):
    put(root / "m" / "1", "first")
    put(root / "m" / "2", "broken")
    put(root / "n" / "1", "odd")
    repository = scanned(root, loader)
    assert served(repository) == {"m/1": "first"}
    found = {f"{one['name']}/{one['version']}": one for one in repository.index()}
    assert found["m/1"]["state"] == "READY"
    assert found["m/2"]["state"] == found["n/1"]["state"] == "UNAVAILABLE"
    assert found["m/2"]["reason"].endswith("it is broken.")
    assert found["n/1"]["reason"] == "LookupError: no such thing"
    assert [one["version"] for one in repository.index(only_ready=True)] == ["1"]


def test_what_could_not_be_loaded_is_tried_again_when_its_files_have_changed(root, loader):
    put(root / "m" / "1", "broken")
    repository = scanned(root, loader)
    scan(repository)
    assert len(loader.loaded) == 1
    put(root / "m" / "1", "repaired")
    scan(repository)
    scan(repository)
    assert served(repository) == {"m/1": "repaired"}
    assert len(loader.loaded) == 2
    (root / "m" / "1" / "variables").mkdir()
    (root / "m" / "1" / "variables" / "more").touch()
    scan(repository)
    assert len(loader.loaded) == 3


def test_a_version_that_is_broken_in_its_place_goes_on_as_it_was(root, loader):
    put(root / "m" / "1", "first")
    repository = scanned(root, loader)
    put(root / "m" / "1", "broken")
    scan(repository)
    assert served(repository) == {"m/1": "first"}
    (found,) = repository.index()
    assert found["reason"].endswith("it is broken.")


def test_versions_and_models_whose_folders_are_gone_are_dropped(root, loader):
    for name in ("m/1", "m/2", "n/1"):
        put(root / name)
    repository = scanned(root, loader)
    shutil.rmtree(root / "m" / "2")
    shutil.rmtree(root / "n")
    scan(repository)
    assert served(repository) == {"m/1": "good"}
    with pytest.raises(Refused, match="version '2': not served here") as error:
        repository.get("m", "2")
    assert error.value.status == 404


def test_what_is_loaded_goes_on_while_the_folder_is_away(root, loader, caplog, monkeypatch):
    put(root / "m" / "1")
    monkeypatch.setattr(logging.getLogger("bnzoo.serving"), "propagate", True)

    async def scenario():
        repository = Repository(root, loader)
        await repository.scan()
        watching = asyncio.create_task(repository.watch(0.01))
        root.rename(root.with_name("away"))
        async with asyncio.timeout(20):
            while "cannot be looked at" not in caplog.text:
                await asyncio.sleep(0.01)
        assert served(repository) == {"m/1": "good"}
        put(root.with_name("away") / "m" / "2", "newer")
        root.with_name("away").rename(root)
        async with asyncio.timeout(20):
            while repository.get("m")[0] != "2":
                await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(scenario())
    assert len(loader.loaded) == 2


def test_files_that_vanish_while_they_are_looked_at_keep_no_other_model_back(
    root, loader, monkeypatch
):
    put(root / "a" / "1")
    put(root / "b" / "1")
    look = Path.rglob

    def rglob(path, pattern):
        if path.match("a/1"):
            raise FileNotFoundError(path)
        return look(path, pattern)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rglob", rglob)
        repository = scanned(root, loader)
    assert served(repository)["b/1"] == "good"
    scan(repository)
    assert set(served(repository)) == {"a/1", "b/1"}


def test_a_version_that_may_not_be_read_is_none_and_keeps_no_other_back(root, monkeypatch):
    """As one that an administrator has copied: here the tests may be run by one."""
    put(root / "closed" / "1")
    put(root / "open" / "1")
    look = os.stat

    def stat(path, *arguments, **options):
        if "closed/1/" in str(path):
            raise PermissionError(path)
        return look(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", stat)
        found = exported_models(root)
    assert set(found) == {"open"}


def test_a_version_with_a_file_that_may_not_be_read_is_loaded_once(root, loader, monkeypatch):
    put(root / "m" / "1")
    repository = scanned(root, loader)

    def is_file(path):
        raise PermissionError(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", is_file)
        patch.setattr(repository_module, "exported_models", lambda root: {"m": [root / "m" / "1"]})
        scan(repository)
        times = len(loader.loaded)
        scan(repository)
    assert len(loader.loaded) == times
    assert served(repository) == {"m/1": "good"}


def test_names_that_are_no_text_keep_no_other_back(root, loader):
    put(root / os.fsdecode(b"m\xff") / "1", "broken")
    put(root / "n" / "1")
    repository = scanned(root, loader)
    assert served(repository) == {"n/1": "good"}
    assert json.dumps(repository.index(), ensure_ascii=False).encode()
    assert [one["name"] for one in repository.index()] == ["m?", "n"]


class SelfReferring(str):
    """A model as TensorFlow's: nothing but a garbage collection frees it."""

    def __init__(self, content):
        self.again = self


def test_the_memory_of_a_model_that_is_served_no_more_is_free(root):
    put(root / "m" / "1")
    repository = scanned(root, lambda name, version, folder: SelfReferring("good"))
    gone = weakref.ref(repository.get("m")[1])
    gc.disable()
    try:
        put(root / "m" / "2")
        shutil.rmtree(root / "m" / "1")
        scan(repository)
        assert gone() is None
        gone = weakref.ref(repository.get("m")[1])
        asyncio.run(repository.unload("m"))
        assert gone() is None
    finally:
        gc.enable()


def test_the_own_name_may_have_capitals():
    app = HttpApp(None, {"MyMachine"})
    assert app._is_ours("mymachine:8080")
    assert not app._is_ours("other:8080")


def test_an_unloaded_model_stays_so_when_the_folder_is_looked_at(root, loader):
    put(root / "m" / "1")
    put(root / "n" / "1")

    async def scenario():
        repository = Repository(root, loader)
        await repository.scan()
        await repository.unload("m")
        put(root / "m" / "2", "newer")
        await repository.scan()
        assert set(served(repository)) == {"n/1"}
        assert {one["reason"] for one in repository.index() if one["name"] == "m"} == {"unloaded"}
        await repository.load("m")
        assert set(served(repository)) == {"m/1", "m/2", "n/1"}
        with pytest.raises(Refused, match="'none': not served"):
            await repository.unload("none")
        put(root / "n" / "2", "broken")
        with pytest.raises(Refused, match="it is broken") as error:
            await repository.load("n")
        assert error.value.status == 422
        assert set(served(repository)) == {"m/1", "m/2", "n/1"}

    asyncio.run(scenario())


def test_loading_and_its_failure_are_logged(root, loader, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bnzoo.serving"), "propagate", True)
    caplog.set_level(logging.INFO)
    put(root / "m" / "1")
    put(root / "m" / "2", "broken")
    repository = scanned(root, loader)
    shutil.rmtree(root / "m" / "1")
    scan(repository)
    told = [(one.levelname, one.getMessage()) for one in caplog.records]
    assert told == [
        ("INFO", f"m, version 1: loaded from {root / 'm' / '1'}"),
        ("ERROR", f"m, version 2: not loaded: {root / 'm' / '2'}: it is broken."),
        ("INFO", "m, version 1: gone"),
    ]


# --- nothing to serve ----------------------------------------------------------------------------


def test_a_folder_without_a_model_that_can_be_loaded_is_refused_with_each_reason(root):
    for name in ("a", "b"):
        put(root / name / "1", "broken")
    with pytest.raises(InputError) as error:
        Serving(root)
    said = str(error.value)
    assert said.startswith(f"{root}: expected a model that can be loaded, got none. ")
    assert f"{root / 'a' / '1'}: " in said
    assert f"{root / 'b' / '1'}: " in said


# --- by call -------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path):
    """A folder with two models that can be served."""
    for name in ("one", "two"):
        exports.export_doubling(tmp_path / "models" / name)
    return tmp_path / "models"


def post(server, path, body=b"", **headers):
    """Return status and body of a POST with just these headers; `Host` is added if it is not."""
    names = {name.replace("_", "-").title(): value for name, value in headers.items()}
    with contextlib.closing(HTTPConnection(HOST, server.port, timeout=60)) as connection:
        connection.putrequest("POST", path, skip_host="Host" in names)
        for name, value in ({"Content-Length": str(len(body))} | names).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


CALLS = ("/v2/repository/models/one/load", "/v2/repository/models/one/unload")


def test_models_are_not_loaded_and_unloaded_by_call_unless_it_is_asked_for(models):
    with (
        serving(models) as server,
        contextlib.closing(load.GrpcClient(server.grpc_port)) as client,
    ):
        for path in CALLS:
            status, answer = post(server, path)
            assert status == 403
            assert "--model-control" in answer["error"]
        for call, message in (
            (client.stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="one")),
            (client.stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="one")),
        ):
            with pytest.raises(grpc.RpcError) as error:
                call(message)
            assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
        status, index = post(server, "/v2/repository/index")
        assert status == 200
        assert [one["state"] for one in index] == ["READY", "READY"]


FOREIGN = {
    "another origin": ({"origin": "http://evil.example"}, 403),
    "no origin": ({"origin": "null"}, 403),
    "an origin of another port": ({"origin": f"http://{HOST}:1"}, 403),
    "an origin that is none": ({"origin": "http://[evil"}, 403),
    "another host": ({"host": "evil.example"}, 403),
    "another host and its origin": (
        {"host": "evil.example", "origin": "http://evil.example"},
        403,
    ),
    "a host that begins as this": ({"host": f"{HOST}.evil.example"}, 403),
    "a host that is none": ({"host": "[evil"}, 403),
    "an empty host": ({"host": ""}, 403),
    "text": ({"content_type": "text/plain"}, 415),
    "text and more": ({"content_type": "text/plain; application/json"}, 415),
    "a form": ({"content_type": "application/x-www-form-urlencoded"}, 415),
}


@pytest.fixture(scope="module")
def controlled(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    exports.export_doubling(models / "one")
    with serving(models, model_control=True) as server:
        yield server


@pytest.mark.parametrize("case", FOREIGN)
def test_pages_of_strangers_cannot_load_and_unload(controlled, case):
    headers, expected = FOREIGN[case]
    for path in CALLS:
        status, answer = post(controlled, path, b"{}", **headers)
        assert status == expected, answer
        assert "the server failed" not in answer["error"]
    assert controlled.service.repository.loaded() == ["one"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content_type": "application/json"},
        {"content_type": "application/json; charset=utf-8"},
        {"host": "localhost:1234"},
        {"host": "[::1]:1234"},
        {"host": "192.0.2.7", "origin": "http://192.0.2.7"},
    ],
)
def test_plain_clients_load_and_unload(controlled, headers):
    assert post(controlled, CALLS[1], b"{}", **headers)[0] == 200
    assert controlled.service.repository.loaded() == []
    assert post(controlled, CALLS[0], b"{}", **headers)[0] == 200
    assert controlled.service.repository.loaded() == ["one"]


def test_the_index_takes_no_body_and_the_bodies_of_the_protocol(controlled):
    path = "/v2/repository/index"
    for body, number in ((b"", 1), (b"{}", 1), (b'{"ready":true}', 1), (b'{"ready":false}', 1)):
        status, found = post(controlled, path, body)
        assert (status, len(found)) == (200, number)
    for body in (b"[]", b"x", b"\xff"):
        assert post(controlled, path, body)[0] == 400
    assert post(controlled, path, b" " * 2000)[0] == 413
