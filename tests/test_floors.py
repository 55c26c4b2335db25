"""The house rules that a machine can check: floors, names, sizes, no machine paths."""

import ast
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOCAL = {"contrastive", "multimodal", "experiments", "configs", "tests", "benchmarks"}
MATHS = {"jax", "flax", "optax", "numpy"}

# Floor -> packages of this repository, and packages of others (None: any but the
# heavy ones below), that its files may import.
FLOORS = {
  "contrastive": ({"contrastive"}, MATHS),
  "multimodal": ({"contrastive", "multimodal"}, MATHS),
  "configs": ({"configs"}, {"ml_collections"}),
  "experiments/engine": ({"contrastive", "multimodal", "experiments.engine"}, None),
  "experiments": ({"contrastive", "multimodal", "experiments"}, None),
}
# Only tests and benchmarks compare with these.
FOREIGN = {"torch", "torchvision", "tensorflow", "lightly", "open_clip"}

# "About 300 lines", and for tests, where many small functions stand side by side.
MAX_LINES, MAX_TEST_LINES = 350, 500
# File -> why it is longer than that.
LONGER: dict[str, str] = {}


def _sources(folder):
  return sorted((ROOT / folder).rglob("*.py"))


def _floor(path):
  name = path.relative_to(ROOT).as_posix()
  return next(f for f in FLOORS if name.startswith(f + "/"))


CODE = [
  p
  for f in ("contrastive", "multimodal", "configs", "experiments")
  for p in _sources(f)
]
EVERYTHING = CODE + _sources("tests") + _sources("benchmarks")
name_of = lambda path: path.relative_to(ROOT).as_posix()


def _imports(path):
  """Full dotted names of what a file imports, wherever in the file."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{name_of(path)}: relative imports hide the floor"
      # `from package import module` imports the module.
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _within(name, packages):
  return any(name == p or name.startswith(p + ".") for p in packages)


def _may_import(path, name):
  local, foreign = FLOORS[_floor(path)]
  top = name.split(".")[0]
  if top in LOCAL:
    return _within(name, local)
  if top in sys.stdlib_module_names:
    return True
  return top not in FOREIGN and (foreign is None or top in foreign)


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_imports_come_from_lower_floors(path):
  wrong = [name for name in _imports(path) if not _may_import(path, name)]
  assert not wrong, f"{name_of(path)} is on the floor '{_floor(path)}'"


def test_the_walk_sees_what_it_should():
  engine = ROOT / "experiments" / "engine" / "x.py"
  assert _may_import(engine, "contrastive.queue")
  assert _may_import(engine, "orbax.checkpoint")
  assert not _may_import(engine, "experiments.pretrain")
  assert not _may_import(engine, "tests.oracle")
  assert not _may_import(ROOT / "contrastive" / "x.py", "multimodal.towers")
  assert not _may_import(ROOT / "contrastive" / "x.py", "orbax.checkpoint")
  assert not _may_import(ROOT / "configs" / "x.py", "jax")
  assert _may_import(ROOT / "configs" / "x.py", "math")
  imported = set(_imports(ROOT / "contrastive" / "rows.py"))
  assert {"contrastive.axes", "jax.numpy", "typing.NamedTuple"} <= imported


def test_no_public_function_bears_the_name_of_a_module():
  modules = {p.parent.name if p.stem == "__init__" else p.stem for p in CODE}
  wrong = [
    f"{name_of(path)}: {node.name}"
    for path in CODE
    if path.parent.name != "configs"  # nobody imports their functions by name
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name in modules
  ]
  assert not wrong


@pytest.mark.parametrize("package", ["contrastive", "multimodal"])
def test_every_public_name_exists_and_is_listed_once(package):
  module = __import__(package)
  listed = getattr(module, "__all__", [])
  assert len(listed) == len(set(listed))
  assert all(hasattr(module, name) for name in listed)


def test_files_stay_readable_in_one_sitting():
  lines = {name_of(p): len(p.read_text().splitlines()) for p in EVERYTHING}
  limit = lambda name: MAX_TEST_LINES if name.startswith("tests/") else MAX_LINES
  long = {name: n for name, n in lines.items() if n > limit(name)}
  assert {name: n for name, n in long.items() if name not in LONGER} == {}
  assert set(LONGER) <= set(long), "LONGER lists a file that is short, or gone"


def test_no_file_names_a_machine():
  """Paths of somebody's disk do not belong into what others read and run."""
  # Not .ci, whose file is the hook of the one machine that runs it.
  folders = [*LOCAL, "docs"]
  files = [p for p in ROOT.iterdir() if p.is_file()]
  files += [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file()]
  kinds = {".py", ".md", ".toml", ".txt", ".json", ".yml", ".yaml", ".html", ".sh", ""}
  roots = "|".join(["ho" + "me", "ro" + "ot", "Us" + "ers", "wo" + "rk", "t" + "mp"])
  pattern = re.compile(rf"(?<![\w./~*<-])/({roots})/|\.\./sha" + "red")
  wrong = [
    f"{name_of(path)}: {line.strip()[:80]}"
    for path in files
    if path.suffix in kinds
    for line in path.read_text(errors="replace").splitlines()
    if pattern.search(line)
  ]
  assert not wrong
