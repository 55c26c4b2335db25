"""Prepares a data set from local files, or downloads it where there is a network.

  python -m experiments.prepare --list
  python -m experiments.prepare cifar10 --from=DIR [--data_dir=DIR]
  python -m experiments.prepare pets --image_folder --from=DIR

The files are checked against their published checksums. What is written is a TFDS
data set in ArrayRecord files, made without TensorFlow, with a provenance.json that
says what it was made of. A stopped command leaves nothing that looks prepared.
"""

import lzma
import pathlib
import re
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from experiments.engine import cli, errors
from experiments.engine.datasets import captioned, embedded, scene_questions
from experiments.engine.datasets.builders import (
  RECIPES,
  download,
  folders,
  image_folder,
  recipe,
)

_DAMAGE = (
  OSError,
  EOFError,
  tarfile.TarError,
  zipfile.BadZipFile,
  zlib.error,
  lzma.LZMAError,
)


def run(
  name: str, *, source: str = "", data_dir: str = "", from_folder: bool = False
) -> dict[str, Any]:
  """Prepares a data set unless it is prepared already.

  Args:
    name: of a known set; or with `from_folder` a name of your own.
    source: folder with its files, or the path of one of them; empty downloads them.
    data_dir: where it goes; empty means $DATA_DIR, then TFDS's default folder.
    from_folder: `source` is a folder of pictures, <split>/<class>/*.png or *.jpg.

  Returns:
    As `describe`, and `made`: whether it was made now.

  Raises:
    UsageError: an unknown name.
    UserError: files that are missing, damaged or other than the published ones.
  """
  _check_name(name, from_folder)
  folder = folders.find_prepared(name, data_dir)
  made = folder is None
  if folder is None:
    from experiments.engine.datasets.builders import (
      writer,  # TFDS: only where it is needed
    )

    read = _read_pictures if from_folder else _read_files
    try:
      pictures, provenance = read(name, source, data_dir)
      print(f"prepares {provenance['title']}", flush=True)
      folder = writer.write(name, pictures, provenance, data_dir)
    except _DAMAGE as error:
      raise errors.UserError(
        f"'{name}' could not be prepared ({error or type(error).__name__})"
      ) from error
  return describe(folder) | {"made": made}


def _check_name(name: str, from_folder: bool) -> None:
  unprepared = (*embedded.NAMES, *captioned.EMBEDDED, *scene_questions.EMBEDDED)
  if from_folder:
    if name in RECIPES or name in unprepared:
      raise errors.UsageError(f"'{name}' is a known data set; choose another name")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
      raise errors.UsageError(
        f"'{name}' cannot name a data set; use small letters, digits and _, as pets_2"
      )
  elif name in unprepared:
    raise errors.UsageError(
      f"'{name}' needs no preparation; use it: --config.data.name={name}"
    )
  elif name not in RECIPES:
    raise errors.UsageError(
      f"{errors.unknown('data set', name, RECIPES)}; a folder of pictures is prepared "
      "with --image_folder --from=DIR"
    )


def _read_files(name: str, source: str, data_dir: str) -> tuple[recipe.Content, dict]:
  known = RECIPES[name]
  if source:
    form, paths = recipe.locate(known, source)
  else:
    downloads = folders.data_folder(data_dir) / "downloads" / name
    form, paths = download.fetch(known, downloads)
  files = recipe.check_files(form, paths)
  return form.read(paths), {
    "name": name,
    "title": known.title,
    "homepage": known.homepage,
    "licence": known.licence,
    "citation": known.citation,
    "note": form.note,
    "sources": files,
  }


def _read_pictures(
  name: str, source: str, data_dir: str
) -> tuple[recipe.Pictures, dict]:
  del data_dir
  if not source:
    raise errors.UsageError("--image_folder needs the folder of pictures: --from=DIR")
  pictures, files = image_folder.read_folder(source)
  return pictures, {
    "name": name,
    "title": f"{name}: pictures of a folder",
    "homepage": "",
    "licence": "that of the pictures",
    "citation": "",
    "note": "",
    "sources": files,
  }


def describe(folder: pathlib.Path) -> dict[str, Any]:
  """Reads what a prepared folder holds.

  Returns:
    `folder`, `splits` (name -> count), `classes` (count; 0 without labels), `shape`,
    `pictures` (of an example) and the contents of provenance.json, if `prepare` made
    it; of pictures with captions or questions that has `captions` or `questions`
    (split -> count).
  """
  import tensorflow_datasets as tfds

  info = tfds.builder_from_directory(folder).info
  features = dict(info.features)
  if "questions" in features:
    features |= features["questions"].feature
  kinds = features.values()
  images = [x for x in kinds if isinstance(x, tfds.features.Image)]
  return {
    "folder": str(folder),
    "splits": {name: split.num_examples for name, split in info.splits.items()},
    "classes": features["label"].num_classes if "label" in features else 0,
    "shape": list(images[0].shape),
    "pictures": len(images),
    **folders.read_provenance(folder),
  }


def _report(name: str, about: dict[str, Any]) -> str:
  splits = ", ".join(f"{split} {n:,}" for split, n in about["splits"].items())
  *sides, channels = about["shape"]
  size = "varied size" if None in sides else "x".join(map(str, sides)) + " pixels"
  each = f"each {about['pictures']} " if about["pictures"] > 1 else ""
  lines = [
    f"{name}: {splits}; {_words(about)}; {each}pictures of {size}, "
    f"{channels} channel{'s' * (channels != 1)}",
    f"in {about['folder']}",
  ]
  if "sources" in about:
    lines.append("from " + ", ".join(source["file"] for source in about["sources"]))
    lines.append(f"licence: {about['licence']}")
  if about.get("note"):
    lines.append(f"note: {about['note']}")
  if not about["made"]:
    lines.append("was prepared already; remove that folder to prepare it anew")
  return "\n  ".join(lines)


def _words(about: dict[str, Any]) -> str:
  kind = "answers" if "questions" in about else "classes"
  words = [f"{about['classes']} {kind}"] if about["classes"] else []
  for written in ("captions", "questions"):
    if counts := about.get(written):
      words.append(f"{sum(counts.values()):,} {written}")
  return ", ".join(words) or "captions"


def list_known() -> str:
  """Returns what --list prints: each known set with the files that it is made of."""
  lines = []
  for known in RECIPES.values():
    lines.append(f"{known.name}: {known.title}; licence {known.licence}")
    for form in known.forms:
      files = " + ".join(file.name for file in form.files)
      lines.append(f"  {files}" + (f" ({form.note})" if form.note else ""))
  lines.append("NAME --image_folder: your own pictures, <split>/<class>/*.png or *.jpg")
  return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
  """Reads the command line; see the module's docstring."""
  logging.set_verbosity(logging.WARNING)  # TFDS logs every step
  values = flags.FLAGS.flag_values_dict()
  if values["list"]:
    print(list_known())
    return
  if len(argv) != 2:
    raise errors.UsageError(
      "give one name: python -m experiments.prepare NAME --from=DIR; --list has the "
      "names and the files"
    )
  about = run(
    argv[1],
    source=values["from"],
    data_dir=values["data_dir"],
    from_folder=values["image_folder"],
  )
  print(_report(argv[1], about))


if __name__ == "__main__":
  flags.DEFINE_string("from", "", "folder with the files, or the path of one of them")
  flags.DEFINE_string(
    "data_dir", "", "folder of prepared data sets; default $DATA_DIR, then TFDS's own"
  )
  flags.DEFINE_bool("image_folder", False, "--from is a folder of pictures")
  flags.DEFINE_bool("list", False, "list the known data sets and their files")
  flags.FLAGS.set_gnu_getopt(True)  # the name may stand before the flags
  cli.guard(main)
