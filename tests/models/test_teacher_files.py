"""Teachers of each kind: what they answer, and which are refused."""

import gc

import numpy as np
import pytest
import tensorflow as tf
from toys import SIZE, linear_teacher, write_model, write_saved_model

from lib.errors import UsageError
from lib.models.keras_files import load_model
from lib.models.teacher_files import open_teacher


@pytest.fixture
def pixels():
    return np.random.default_rng(1).uniform(0, 255, (5, SIZE, SIZE, 3)).astype("float32")


def expected(pixels):
    return pixels.mean(axis=(1, 2)) / 255 @ (60 * (np.eye(3) - 1 / 3))


@pytest.mark.parametrize("variables", [True, False])
def test_a_saved_model_with_variables_or_constants(tmp_path, pixels, variables):
    path = write_saved_model(tmp_path / "teacher", linear_teacher(variables))
    teacher = open_teacher(path, 3, SIZE)
    gc.collect()  # of a teacher that only holds the signature the variables would be gone
    np.testing.assert_allclose(teacher(pixels), expected(pixels), atol=1e-4)


def test_a_keras_file(tmp_path, pixels):
    path = write_model(tmp_path / "teacher.keras", noise=0.5)
    teacher = open_teacher(path, 3, SIZE)
    np.testing.assert_allclose(teacher(pixels), load_model(path)(pixels, training=False), atol=1e-6)


def test_it_is_traced_once_for_all_sizes_of_batches(tmp_path, pixels):
    for path in (
        write_saved_model(tmp_path / "teacher", linear_teacher()),
        write_model(tmp_path / "teacher.keras"),
    ):
        teacher = open_teacher(path, 3, SIZE)
        compiled = tf.function(lambda values, teacher=teacher: teacher(values) + 1)
        for values in (pixels, pixels[:2], pixels[:1]):
            teacher(values)
            compiled(values)
        assert teacher.experimental_get_tracing_count() == 1


def test_no_gradient_goes_through(tmp_path, pixels):
    teacher = open_teacher(write_model(tmp_path / "teacher.keras"), 3, SIZE)
    values = tf.Variable(pixels)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(teacher(values))
    assert tape.gradient(total, values) is None


def test_one_of_several_outputs(tmp_path, pixels):
    path = write_saved_model(tmp_path / "teacher", linear_teacher(), outputs=("features", "logits"))
    with pytest.raises(UsageError, match="has the outputs features, logits; choose one with ⟦teacher_output⟧"):
        open_teacher(path, 3, SIZE)
    with pytest.raises(UsageError, match="has no output 'probabilities', only features, logits") as error:
        open_teacher(path, 3, SIZE, output="probabilities")
    assert error.value.setting == "teacher_output"
    np.testing.assert_allclose(open_teacher(path, 3, SIZE, output="logits")(pixels), 2 * expected(pixels), atol=1e-4)
    other = write_saved_model(tmp_path / "other", linear_teacher(), outputs=("a", "output"))
    np.testing.assert_allclose(open_teacher(other, 3, SIZE)(pixels), 2 * expected(pixels), atol=1e-4)
    with pytest.raises(UsageError, match="only a SavedModel has several") as error:
        open_teacher(write_model(tmp_path / "t.keras"), 3, SIZE, output="output")
    assert error.value.setting == "teacher_output"


def test_teachers_that_do_not_fit(tmp_path):
    path = write_saved_model(tmp_path / "teacher", linear_teacher())
    with pytest.raises(UsageError, match="gives 3 as 'output', but ⟦categories⟧ asks for 4 logits"):
        open_teacher(path, 4, SIZE)
    with pytest.raises(UsageError, match=r"takes images of 3 x 16 x 16 \(bands, height and width\), not 3 x 32 x 32"):
        open_teacher(path, 3, 32)
    with pytest.raises(UsageError, match="not 1 x 16 x 16"):
        open_teacher(path, 3, SIZE, bands=1)
    fixed = write_saved_model(tmp_path / "fixed", linear_teacher(), batch=8)
    with pytest.raises(UsageError, match="takes 8 images at once; export it for batches of any size"):
        open_teacher(fixed, 3, SIZE)
    with pytest.raises(UsageError, match="has 3 outputs where 4 are needed"):
        open_teacher(write_model(tmp_path / "t.keras"), 4, SIZE)


def test_no_teacher_at_all(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match="broken can't be opened as a SavedModel"):
        open_teacher(str(tmp_path / "broken"), 3, SIZE)
    tf.saved_model.save(tf.Module(), str(tmp_path / "mute"))
    with pytest.raises(UsageError, match="without the signature serving_default"):
        open_teacher(str(tmp_path / "mute"), 3, SIZE)
