"""This project's distillation, measured from within: the same calls and results as `plain_distill.py`.

With `--input` the seconds of two passes over what the distillation reads, and of one that changes, crops and mixes it,
too, in a compiled function of its own, as the step does.
"""

import json
import tempfile

import numpy as np

from benchmarks.common import child_arguments, message_times
from benchmarks.our_train import input_seconds
from lib.storage.runs import run_of
from lib.training.hyperparameters import Hyperparameters
from lib.training.student import Settings, train_student

CHANGED = (
    *("left_right", "rotate_one", "rotate_three", "rotate_two", "shear_x", "shear_y", "translate_x", "translate_y"),
    *("up_down", "gaussian_noise", "invert", "solarize_add"),
)


def main():
    arguments = child_arguments(5)
    result, student, teacher, train, validation = arguments.files
    power = arguments.batch.bit_length() - 1
    hyperparameters = Hyperparameters(batch_power=power, **dict.fromkeys(CHANGED, arguments.changes))
    if arguments.input:
        options = (arguments.size, arguments.batch, arguments.seed, arguments.classes)
        found = {"seconds": input_seconds(train, *options, hyperparameters)}
    else:
        with tempfile.TemporaryDirectory() as folder, message_times("Epoch ", "Running the teacher") as times:
            settings = Settings(
                student=student,
                teacher=teacher,
                categories=arguments.classes,
                train=(train,),
                validate=(validation,),
                output=folder,
                teacher_size=arguments.size,
                student_size=arguments.size,
                epochs=arguments.epochs,
                seed=arguments.seed,
                cpu=True,
            )
            model = train_student(settings, hyperparameters)
            history = np.load(run_of(model).file("history.npy"), allow_pickle=True).item()
        found = {
            "seconds": [end - start for start, end in zip(times, times[1:])],
            "agreement": history["val_agreement"],
        }
    with open(result, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
