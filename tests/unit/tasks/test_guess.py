from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import DataError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Tensors
from skerry.tasks import _image
from skerry.tasks.guess import Guess, Run, guess_task
from skerry.tasks.steps import Layout, Normalize, Resize, Softmax
from skerry.tasks.task import TaskKind, parse_task, task_to_toml

X = TensorSpec(name="x", dtype="float32", shape=("N", 3, 8, 8))
CLASSES = TensorSpec(name="y", dtype="float32", shape=("N", 3))
COLOURS = {"red": (250, 5, 5), "green": (5, 250, 5), "blue": (5, 5, 250)}


def _save_colours(folder: Path, names: dict[str, str]) -> None:
    for colour, name in names.items():
        (folder / name).mkdir()
        for k in range(3):
            pixels = np.zeros((9, 9 + k, 3), np.uint8) + np.uint8(COLOURS[colour])
            (folder / name / f"{k}.png").write_bytes(_image.encode_png(pixels))


def _colour_model(step: Normalize, channels: str, order: str = "CHW") -> Run:
    """Make a model that knows pixels on one scale and in one order, and no others."""
    colours = step.apply(np.array([list(COLOURS.values())], np.uint8))[0]
    known = colours[:, ::-1] if channels == "BGR" else colours

    def run(inputs: Tensors) -> dict[str, Array]:
        array = inputs["x"] if order == "HWC" else inputs["x"].transpose(0, 2, 3, 1)
        pixel = array[0].mean(axis=(0, 1))
        far = np.square(known - pixel).sum(axis=1) / known.var()
        return {"y": 10 * np.exp(-far)[None].astype(np.float32)}

    return run


def _guess(path: Path, run: Run, **options: object) -> Guess:
    given = {"inputs": [X], "outputs": [CLASSES], "metadata": {}} | options
    return guess_task(path, run=run, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (Normalize(scale=1 / 255), "RGB pixels from 0 to 1 give"),
        (Normalize(scale=1 / 255, mean=0.5, std=0.5), "RGB pixels from -1 to 1 give"),
        (Normalize(), "RGB pixels from 0 to 255 give"),
    ],
)
def test_the_scale_is_found_by_trying(
    tmp_path: Path, step: Normalize, name: str
) -> None:
    """The scale the model knows wins, and the reasons say how clearly."""
    _save_colours(tmp_path, {colour: colour for colour in COLOURS})
    metadata = {"names": "['red', 'green', 'blue']"}
    guess = _guess(tmp_path, _colour_model(step, "RGB"), metadata=metadata)
    assert guess.task.kind is TaskKind.CLASSIFICATION
    assert guess.task.labels == ("red", "green", "blue")
    assert guess.task.pre == (Resize(height=8, width=8), step, Layout())
    assert isinstance(guess.task.post[0], Softmax)
    assert guess.confidence == 1
    assert any(f"{name} 9 of 9 samples right" in reason for reason in guess.reasons)
    assert parse_task(task_to_toml(guess.task).encode(), name="t") == guess.task


def test_the_order_of_channels_is_found_by_trying(tmp_path: Path) -> None:
    """A model of BGR pixels gets them, and HWC is seen in the signature."""
    _save_colours(tmp_path, {colour: colour for colour in COLOURS})
    guess = _guess(
        tmp_path,
        _colour_model(Normalize(scale=1 / 255), "BGR", "HWC"),
        inputs=[TensorSpec(name="x", dtype="float32", shape=(1, 8, 8, 3))],
        metadata={"labels": "red\ngreen\nblue"},
    )
    assert guess.task.pre[-1] == Layout(order="HWC", channels="BGR")
    assert guess.confidence == 1


def test_names_come_from_sub_folders_numbers_in_order(tmp_path: Path) -> None:
    """Folders called 2, 9 and 10 are classes 0, 1 and 2."""
    _save_colours(tmp_path, {"red": "2", "green": "9", "blue": "10"})
    guess = _guess(tmp_path, _colour_model(Normalize(scale=1 / 255), "RGB"))
    assert guess.task.labels == ("2", "9", "10")
    assert guess.confidence == 1
    assert any("from the data's own labels" in reason for reason in guess.reasons)


def test_names_come_from_a_file_beside_the_model(tmp_path: Path) -> None:
    """labels.txt beside the model names the classes."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "labels.txt").write_text("red\ngreen\nblue\n")
    (tmp_path / "pictures").mkdir()
    _save_colours(tmp_path / "pictures", {colour: colour for colour in COLOURS})
    guess = _guess(
        tmp_path / "pictures",
        _colour_model(Normalize(scale=1 / 255), "RGB"),
        model_path=tmp_path / "model" / "m.onnx",
    )
    assert guess.task.labels == ("red", "green", "blue")


def test_unlabelled_pictures_are_judged_by_confidence(tmp_path: Path) -> None:
    """Without labels the surest way wins, and the reason says that it is no proof."""
    for k, colour in enumerate(COLOURS.values()):
        pixels = np.zeros((8, 8, 3), np.uint8) + np.uint8(colour)
        (tmp_path / f"{k}.png").write_bytes(_image.encode_png(pixels))
    guess = _guess(tmp_path, _colour_model(Normalize(scale=1 / 255), "RGB"))
    assert guess.task.labels == ()
    assert 0 < guess.confidence <= 1
    assert any("confidence" in reason for reason in guess.reasons)
    assert any("No names for the 3 classes" in reason for reason in guess.reasons)


def test_looking_sure_on_large_numbers_is_no_proof(tmp_path: Path) -> None:
    """A model that is right on each scale is not fed unscaled pixels for it."""
    _save_colours(tmp_path, {colour: colour for colour in COLOURS})
    guess = _guess(
        tmp_path,
        lambda inputs: {"y": 3 * inputs["x"].mean(axis=(2, 3))},
        metadata={"names": "red\ngreen\nblue"},
    )
    assert guess.confidence == 1
    assert guess.task.pre[1] != Normalize()


def test_ways_that_cannot_be_told_apart_are_named(tmp_path: Path) -> None:
    """Gray pictures look the same in any order of channels: the reason says so."""
    (tmp_path / "a.png").write_bytes(_image.encode_png(np.full((8, 8), 99, np.uint8)))
    guess = _guess(
        tmp_path,
        lambda inputs: {"y": inputs["x"][:, :, 0, 0] / np.float32(99)},
        inputs=[TensorSpec(name="x", dtype="uint8", shape=(1, 3, 8, 8))],
    )
    assert guess.task.pre[-1] == Layout(channels="RGB")
    assert (
        "so do BGR pixels from 0 to 255, which the samples cannot tell apart"
        in (guess.reasons[-1])
    )


def test_whole_numbers_need_no_scale(tmp_path: Path) -> None:
    """A model of uint8 pixels gets them as they are."""
    _save_colours(tmp_path, {colour: colour for colour in COLOURS})
    guess = _guess(
        tmp_path,
        _colour_model(Normalize(), "RGB"),
        inputs=[TensorSpec(name="x", dtype="uint8", shape=(1, 3, None, None))],
        metadata={"names": "{0: 'red', 1: 'green', 2: 'blue'}"},
    )
    # The pictures differ in size and the model takes any: the usual size it is.
    assert guess.task.pre == (Resize(height=224, width=224), Layout())
    assert guess.confidence == 1


def test_an_npz_holds_inputs(tmp_path: Path) -> None:
    """Arrays need no steps; probabilities need no softmax."""
    eye = np.eye(3, dtype=np.float32)
    np.savez(tmp_path / "a.npz", x=eye, label=np.array([0, 1, 0]))
    guess = _guess(
        tmp_path / "a.npz",
        lambda inputs: {"y": inputs["x"]},
        inputs=[TensorSpec(name="x", dtype="float32", shape=("N", 3))],
    )
    assert guess.task.pre == ()
    assert len(guess.task.post) == 1
    assert guess.confidence == pytest.approx(2 / 3)
    assert any("as they are give 2 of 3 samples right" in r for r in guess.reasons)


def _text_model(inputs: Tensors) -> dict[str, Array]:
    """Read ink in the first quarter of the line as a, elsewhere as b."""
    columns = inputs["x"][0].mean(axis=(0, 1))
    steps = columns.reshape(4, -1).min(axis=1) < columns.max() / 2
    scores = np.full((1, 4, 4), 0.01, np.float32)
    scores[0, np.arange(4), np.where(steps, [1, 2, 2, 2], 0)] = 0.97
    return {"y": scores}


@pytest.mark.parametrize(
    ("character", "alphabet"),
    [("a\nb", ("", "a", "b", " ")), ("a\nb\nc", ("", "a", "b", "c"))],
)
def test_text_takes_its_alphabet_from_the_metadata(
    tmp_path: Path, character: str, alphabet: tuple[str, ...]
) -> None:
    """Blank, and space where it is missing, are added to the model's characters."""
    for name, left in (("one", 0), ("two", 40)):
        line = np.full((10, 66, 3), 255, np.uint8)
        line[:, left : left + 16] = 0
        (tmp_path / f"{name}.png").write_bytes(_image.encode_png(line))
    (tmp_path / "labels.csv").write_text("file,label\none.png,a\ntwo.png,b\n")
    guess = _guess(
        tmp_path,
        _text_model,
        inputs=[TensorSpec(name="x", dtype="float32", shape=(None, 3, 48, None))],
        outputs=[TensorSpec(name="y", dtype="float32", shape=(None, None, 4))],
        metadata={"character": character},
    )
    assert guess.task.kind is TaskKind.TEXT
    assert guess.task.metric == "lines_right"
    assert guess.task.labels == alphabet
    assert guess.task.pre[0] == Resize(height=48, width=320, keep_aspect=True, fill=127)
    assert guess.task.post[0].version == 1


def test_text_without_an_alphabet_is_refused(tmp_path: Path) -> None:
    """No list of the right length: the error says what was found."""
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(DataError, match="4 symbols; found 1 in the model's metadata"):
        _guess(
            tmp_path / "a.npz",
            _text_model,
            outputs=[TensorSpec(name="y", dtype="float32", shape=(None, None, 4))],
            metadata={"character": "a"},
        )


def test_signatures_that_say_too_little_are_refused(tmp_path: Path) -> None:
    """An output or input of no known form is named, not guessed."""
    _save_colours(tmp_path, {"red": "red"})
    model = _colour_model(Normalize(), "RGB")
    with pytest.raises(DataError, match=r"first output is y float32\[5\]"):
        _guess(
            tmp_path,
            model,
            outputs=[TensorSpec(name="y", dtype="float32", shape=(5,))],
        )
    with pytest.raises(DataError, match="take no pictures"):
        _guess(
            tmp_path,
            model,
            inputs=[TensorSpec(name="x", dtype="float32", shape=(1, 7, 8, 9))],
        )


def test_a_labels_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """labels.txt in another encoding than UTF-8 is a DataError."""
    _save_colours(tmp_path, {"red": "red"})
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"cannot read .*labels\.txt"):
        _guess(tmp_path, _colour_model(Normalize(), "RGB"))
