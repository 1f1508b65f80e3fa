#!/usr/bin/env bash
# A model of one's own: from a folder with a subfolder for each category to a tested classifier and its card.
#
#     ./own.sh collection                  everything is written to the folder own
#     OWN=ferns EPOCHS=100 ./own.sh DIR    another one: each setting below may come from the environment
#
# It runs the stages one after the other, as anyone could by hand, and says what it decides between them, and why.
# $OWN/runs/chain.tsv gets a line for each command, with its time and memory. Interrupted? The same command resumes it.
set -euo pipefail
TOOLKIT=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd)
. "$TOOLKIT/stages.sh"

# Where everything is written, and what the draws follow from.
: "${OWN:=own}" "${SEED:=1}"
# The shares of training, validation and test, and the side of the records' images.
: "${SHARES:=0.7:0.15:0.15}" "${SIZE:=96}"
# The model whose encoder is taken: ConvNeXt-N, which is downloaded if it is missing, or a file of the same architecture.
: "${ENCODER:=ConvNeXt-N}"
# Training: how long the last layers and then all of them, the highest rate for all, images per step, augmentation.
: "${HEAD_EPOCHS:=60}" "${EPOCHS:=60}" "${RATE:=0.0005}" "${BATCH:=32}" "${AUGMENT:=small}"
# The soup: how many of the epochs' models it may take.
: "${KEEP:=12}"

case ${1-} in
    -h | --help) comments_and_settings "$0"; exit ;;
esac

refuse() {
    echo "own.sh: $*" >&2
    exit 2
}

(($# == 1)) || refuse "give a folder with a subfolder for each category; settings come from the environment, and --help lists them"
[ -d "$1" ] || refuse "$1 is not an existing folder; give a folder with a subfolder for each category"
DATA=$1 DIR=$OWN/runs RECORDS=$OWN/records

# Hours may pass before a setting is needed: what is wrong with one should be said now.
SETTINGS=()
for NAME in OWN SEED SHARES SIZE ENCODER HEAD_EPOCHS EPOCHS RATE BATCH AUGMENT KEEP; do
    SETTINGS+=("$NAME=${!NAME}")
done
ENCODER_FILE=$(PYTHONPATH=$TOOLKIT${PYTHONPATH:+:$PYTHONPATH} python3 -m tools.own_settings "$DATA" "${SETTINGS[@]}")
mkdir -p "$DIR"

# without COLUMN: the categories that have no image there in the table of counts
without() {
    awk -F '\t' -v column="$1" 'NR > 1 && !$column { printf "%s%s", comma, $1; comma = ", " }' "$OWN/counts.tsv"
}

say "Records: $SHARES of each category for training, validation and test; near-duplicates stay together"
stage "$TOOLKIT/imagesToTFR.py" -d "$DATA" -o "$RECORDS" -s "$SIZE" --per-class "$SHARES" -r "$SEED" > "$OWN/counts.tsv.partial"
mv "$OWN/counts.tsv.partial" "$OWN/counts.tsv"
cat "$OWN/counts.tsv" >&2
CATEGORIES=$(($(wc -l < "$RECORDS-categories.tsv") - 1)) UNLEARNT=$(without 2) UNTESTED=$(without 4)
((CATEGORIES > 1)) || refuse "only one category has images that can be read, and a model needs two or more"
[ -z "$UNLEARNT" ] || refuse "no image for training: $UNLEARNT; add images, remove the folder, or give other SHARES"
for SPLIT in validation test; do
    [ -f "$RECORDS-$SPLIT.tfr" ] || refuse "no category has an image for $SPLIT; add images, or give other SHARES"
done
[ -z "$UNTESTED" ] || say "Learnt, but with too few images to be tested, so that no figure is about them: $UNTESTED"
IMAGES=$(awk -F '\t' 'NR > 1 { count += $2 } END { print count }' "$OWN/counts.tsv")
while ((BATCH > 4 && BATCH * 4 > IMAGES)); do ((BATCH /= 2)); done

say "A fresh classifier of $CATEGORIES categories takes over the encoder of $ENCODER"
stage "$TOOLKIT/convnext.py" -a "$CATEGORIES" -e 2 -i "$SIZE" -r "$SEED" -x 24 -o "$OWN/fresh.keras" > /dev/null
stage "$TOOLKIT/convnextClassifier.py" -e "$ENCODER_FILE" -m "$OWN/fresh.keras" -o "$OWN/start.keras" > /dev/null

COMMON=(-a "$CATEGORIES" -b "$BATCH" -o "$DIR" -r "$SEED" -t "$RECORDS-train.tfr" -v "$RECORDS-validation.tfr" --augment "$AUGMENT")
say "First only the last layers, since fresh ones would spoil the encoder: $IMAGES images, $BATCH a step"
stage "$TOOLKIT/trainImagesC.py" "${COMMON[@]}" -m "$OWN/start.keras" -e "$HEAD_EPOCHS" -s output_gap --name "last layers" \
    > "$OWN/path"
HEAD=$(cat "$OWN/path")
say "Then all layers, at a tenth of the rate; the models of the $KEEP best epochs are kept"
stage "$TOOLKIT/trainImagesC.py" "${COMMON[@]}" -m "$HEAD" -e "$EPOCHS" -l "$RATE" -s rescale -Q --keep "$KEEP" \
    --name "all layers" > "$OWN/path"
BEST=$(cat "$OWN/path")
say "A soup: the mean of those that are better together, on the images for validation"
stage "$TOOLKIT/imageSoup.py" -a "$CATEGORIES" -d "$RECORDS-validation.tfr" -v "$RECORDS-validation.tfr" \
    -m "${BEST%-best/*}-intermediate" -o "$DIR" -T 1 --name soup > "$OWN/soup.tsv"
# Not the newest one: an earlier one, if the collection is again what it was.
SOUP=$(grep -lF "/$(basename "${BEST%-best/*}")-intermediate\"" "$DIR"/*/soup-settings.json | tail -n 1)
SOUP=${SOUP%settings.json}model.keras

# Their macro F1s on the images for validation, since those for the test are for nothing but the test.
ALONE=$(sed -n 2p "$OWN/soup.tsv" | cut -f 2) TOGETHER=$(tail -n 1 "$OWN/soup.tsv" | cut -f 2)
rm "$OWN/path"
MODEL=$BEST CHOICE="no soup, since it is no better in validation"
if awk "BEGIN { exit !($TOGETHER > $ALONE) }"; then
    MODEL=$SOUP CHOICE="the soup, since it is better in validation"
fi
say "The result is $CHOICE: macro F1 $TOGETHER against $ALONE of the best epoch"
stage "$TOOLKIT/testImages.py" -a "$CATEGORIES" -m "$MODEL" -t "$RECORDS-test.tfr" --card --json "$OWN/test.json" --report "$OWN/test.html"
ln -sfn "runs/$(basename "$(dirname "$MODEL")")" "$OWN/model"
cat << TEXT
The model:                 $OWN/model/$(basename "$MODEL")
Its card:                  $OWN/model/README.md
The test's images:         $OWN/test.html
Time and memory by stage:  $DIR/chain.tsv
To categorise a folder:    ./predictImages.py -d images -o predictions.tsv -m $(printf %q "$OWN/model/$(basename "$MODEL")")
TEXT
