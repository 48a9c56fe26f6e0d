import re
import subprocess

from tasks.runtime.revision import release, revision


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_revision_is_that_of_the_code(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    assert revision(project) is None
    revision.cache_clear()
    git(project, "init", "-q")
    assert revision(project) is None  # no commit yet
    (project / "file").write_text("one")
    git(project, "add", "file")
    git(project, "commit", "-qm", "One")
    revision.cache_clear()
    commit = git(project, "rev-parse", "HEAD")
    assert revision(project) == commit[:12]
    (project / "file").write_text("two")
    revision.cache_clear()
    assert revision(project) == f"{commit[:12]}-dirty"
    inside = project / "inside"
    inside.mkdir()
    assert revision(inside) is None
    revision.cache_clear()


def test_the_release_is_told():
    assert re.fullmatch(r"\d+\.\d+\.\d+", release())
