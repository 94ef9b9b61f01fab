"""The workflows of CI: what they may do, whose code they run, and that the sessions they name exist."""

import ast
import re
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="workflows are YAML; nox installs it")
ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


def read(path):
    found = yaml.safe_load(path.read_text())
    found["on"] = found.pop(True, found.get("on"))  # YAML 1.1 reads "on" as a truth value
    return found


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_there_are_workflows_for_tests_book_and_publishing():
    assert [path.stem for path in FILES] == ["book", "publish", "tests"]


def test_actions_are_pinned_to_commits_with_their_versions(path):
    lines = [line.strip(" -") for line in path.read_text().splitlines() if "uses:" in line]
    assert lines
    assert [line for line in lines if not PINNED.fullmatch(line)] == []


def test_one_action_has_one_commit():
    lines = {
        line.strip(" -") for f in FILES for line in f.read_text().splitlines() if "uses:" in line
    }
    names = [line.partition("@")[0] for line in lines]
    assert len(set(names)) == len(names)


def test_jobs_may_do_what_they_need_and_no_more(path):
    workflow = read(path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        may = job["permissions"]
        expected = {
            ("publish", "publish"): {"id-token": "write"},
            ("book", "deploy"): {"pages": "write", "id-token": "write"},
        }
        assert may == expected.get((path.stem, name), {"contents": "read"})
        assert ("environment" in job) is ("id-token" in may)


def test_jobs_end_and_do_not_pile_up(path):
    workflow = read(path)
    assert workflow["concurrency"]["group"]
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 60


def test_nothing_that_others_write_becomes_a_command(path):
    """``${{ }}`` in a script is put in before a shell reads it, also what a pull request is called."""
    for job in read(path)["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            if "checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False
    assert "pull_request_target" not in path.read_text()
    assert "secrets." not in path.read_text()


def test_a_release_is_built_once_from_a_tag_of_a_version():
    workflow = read(ROOT / ".github/workflows/publish.yml")
    assert list(workflow["on"]) == ["push"]
    assert list(workflow["on"]["push"]) == ["tags"]
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert publish["needs"] == "build"
    actions = [step["uses"].partition("@")[0] for step in publish["steps"]]
    assert actions == ["actions/download-artifact", "pypa/gh-action-pypi-publish"]
    assert any("build" in step.get("run", "") for step in build["steps"])


def sessions():
    """Of noxfile.py, by its text: nox need not be installed."""
    names, text = set(), (ROOT / "noxfile.py").read_text()
    for node in ast.parse(text).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            source = ast.unparse(decorator)
            if source.startswith("nox.session"):
                given = re.search(r"name='([^']*)'", source)
                names.add(given[1] if given else node.name)
            if source.startswith("nox.parametrize"):
                backends = re.search(r"in \(([^)]*)\)", source)[1]
                names |= {f"{node.name}({b})" for b in re.findall(r"'(\w+)'", backends)}
    return names


def test_the_sessions_that_jobs_name_exist():
    named = set()
    for path in FILES:
        for job in read(path)["jobs"].values():
            named |= set(job.get("strategy", {}).get("matrix", {}).get("session", []))
            for step in job["steps"]:
                run = step.get("run", "")
                if run.startswith("nox") and "$SESSION" not in run:
                    named |= {name.strip('"') for name in run.split()[2:]}
    assert {"tests(numpy)", "build", "book"} <= named
    assert named <= sessions(), named - sessions()


def test_every_version_that_is_allowed_has_a_beginning():
    """`minimum` installs it; without one, the oldest that pip finds may be of ten years ago."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    users = [*project["dependencies"]]
    for name in ("cupy", "dask", "fast", "gguf", "jax", "torch"):
        users += extras[name]
    for requirement in users:
        assert re.fullmatch(r"[\w.-]+(\[\w+\])?>=\d+(\.\d+)+|[\w-]+>=\d+", requirement), requirement
