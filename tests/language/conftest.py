import pytest
import words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return words.build_recipe(tmp_path_factory.mktemp("language"))


@pytest.fixture
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder
