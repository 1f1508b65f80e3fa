#!/usr/bin/env bash
# The whole chain in small, on drawn pictures, without any download: `make demo` calls it.
#
# What it makes is in the folder demo (or $DEMO). Interrupted? The same command resumes it.
set -euo pipefail
TOOLKIT=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd)
. "$TOOLKIT/stages.sh"
if (($#)); then
    echo "demo.sh: $1 is not understood; DEMO=FOLDER in the environment names another folder" >&2
    exit 2
fi

: "${DEMO:=demo}"
# Pictures of each category; the side of their records; fractals, the side of their pictures, and their views.
: "${PICTURES:=60}" "${SIZE:=64}" "${FRACTALS:=32}" "${FRACTAL_SIZE:=32}" "${VIEWS:=32}"
# How long the teacher and the student learn from fractals, and each stage of the classifier from the pictures.
: "${TEACHER_TRAINING:=8}" "${TEACHER_EPOCHS:=8}" "${EPOCHS:=6}" "${QUANTITY_EPOCHS:=64}"
# The reader's collection: pictures of each category, how many are taught, and how many only measured with.
: "${COLLECTION:=15}" "${TAUGHT:=60}" "${AUDITED:=60}"
# The published model has 96 filters and blocks of 3:3:9:3, the published training batches of 256 and a rate of 0.00005:
# far too much, and too slow, for a thousand pictures.
: "${FILTERS:=24}" "${BLOCKS:=1:1:2:1}" "${BATCH:=32}" "${RATE:=0.002}"

DIR=$DEMO/runs
mkdir -p "$DIR" "$DEMO/teacher"

say "Pictures of 17 categories, and their records"
stage python3 -m tools.sample "$DEMO/sample" --count "$PICTURES" --seed 1
stage python3 -m tools.sample "$DEMO/unknown" --count 6 --seed 2
stage "$TOOLKIT/imagesToTFR.py" -d "$DEMO/sample" -o "$DEMO/sample-$SIZE" -s "$SIZE" --herbariograph --per-class 0.7:0.15:0.15

say "Fractals, and a teacher that can tell them apart"
stage "$TOOLKIT/fractals.py" -n "$FRACTALS" -s "$FRACTAL_SIZE" --views "$VIEWS" -o "$DEMO/fractals" \
    --sheet "$DEMO/fractals.jpg"
stage "$TOOLKIT/convnext.py" -a "$FRACTALS" -i "$FRACTAL_SIZE" -n "$BLOCKS" -x "$FILTERS" -o "$DEMO/teacher.keras"
stage "$TOOLKIT/trainImagesC.py" -a "$FRACTALS" -b 32 -e "$TEACHER_TRAINING" -i "$FRACTAL_SIZE" -l 0.003 \
    -m "$DEMO/teacher.keras" -o "$DEMO/teacher" -t "$DEMO/fractals-train.tfr" -v "$DEMO/fractals-test.tfr"

say "The chain: distil, transfer, train, make a soup, test, predict"
# Read into this shell, so that a signal to it ends whatever runs. What is set here are the settings of chain.sh.
# shellcheck disable=SC2034
{
    TEACHER=$(DIR=$DEMO/teacher newest best-model.keras)
    TEACHER_CLASSES=$FRACTALS TEACHER_SIZE=$FRACTAL_SIZE STUDENT=$DEMO/student.keras CLASSES=17
    TEACHER_TRAIN=$DEMO/fractals-train.tfr TEACHER_VALIDATION=$DEMO/fractals-test.tfr
    TRAIN=$DEMO/sample-$SIZE-train.tfr VALIDATION=$DEMO/sample-$SIZE-validation.tfr TEST=$DEMO/sample-$SIZE-test.tfr
    UNKNOWN=$DEMO/unknown OUTPUT=$DEMO/predictions.tsv PREDICTOR=soup
    REPORT=$DEMO/predictions.html PREDICTION_OPTIONS=--overwrite
}
. "$TOOLKIT/chain.sh"

say "The soup against the best epoch of the last training, on the test pictures"
stage "$TOOLKIT/testImages.py" -a 17 -b 256 -m "$MODEL" --compare "$SOUP" -t "$TEST" --json "$DEMO/comparison.json" > /dev/null
stage "$TOOLKIT/testImages.py" -a 17 -b 256 -m "$SOUP" -t "$TEST" --json "$DEMO/test.json" \
    --report "$DEMO/test.html" > /dev/null
say "A reader teaches a model of which only the last layers have been trained"
# Of the classifier's trainings the first; before it lies the student's.
# shellcheck disable=SC2012  # names of runs are hexadecimal digits
HALF=$(ls -tr "$DIR"/*/best-model.keras | sed -n 2p)
mkdir -p "$DEMO/adapted"
stage python3 -m tools.sample "$DEMO/collection" --count "$COLLECTION" --seed 3
stage "$TOOLKIT/predictImages.py" -d "$DEMO/collection" -m "$HALF" -o "$DEMO/untaught.tsv" \
    --embeddings "$DEMO/collection.npz" --overwrite
stage python3 -m tools.replay "$DEMO/collection.npz" "$DEMO/corrections.tsv" -m "$HALF" --taught "$TAUGHT" \
    --audited "$AUDITED" > /dev/null
stage "$TOOLKIT/adaptImages.py" -m "$HALF" -e "$DEMO/collection.npz" -t "$DEMO/corrections.tsv" \
    -o "$DEMO/adapted/adapted.keras" --predict "$DEMO/taught.tsv" --report "$DEMO/taught.html" > "$DEMO/taught.txt"
python3 - "$DEMO" << 'PYTHON'
import json
import sys

folder = sys.argv[1]
with open(f"{folder}/test.json") as test, open(f"{folder}/comparison.json") as comparison:
    accuracy, gain = json.load(test)["accuracy"], json.load(comparison)["comparison"]
low, high = (100 * end for end in gain["interval"])
with open(f"{folder}/taught.txt") as file:
    audited = [line for line in file.read().splitlines() if line.startswith("Audited accuracy")]
print(f"""
Test accuracy of the soup: {100 * accuracy:.1f} % (by chance: 5.9 %)
The soup's gain in macro F1: {100 * gain["f1_difference"]:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})
A half-trained model and a reader who looked at some pictures of another collection:
{audited[0]}
{audited[1]}
The report of the test:    {folder}/test.html
That of the predictions:   {folder}/predictions.html
What the reader taught:    {folder}/taught.html
Time and memory by stage:  {folder}/runs/chain.tsv""")
PYTHON
