#!/usr/bin/env bash
# The whole chain: from an empty ConvNeXt and a teacher to a soup, its test, and a table of predictions.
#
#     ./chain.sh                                           the published chain
#     EPOCHS=64 BATCH=64 TRAIN=my-train.tfr … ./chain.sh   another one: each setting below may come from the environment
#
# The commands are those of the README. Names are those of the folder that it is called in. $DIR/chain.tsv gets a line
# for each command that has ended, with its time and memory. Interrupted? Run it again with the same settings: each
# stage resumes where it was, or says that it is complete.
set -euo pipefail
TOOLKIT=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd)
. "$TOOLKIT/stages.sh"

# Where runs are written, and what the draws follow from.
: "${DIR:=ConvNeXt}" "${SEED:=89178525}" "${GPU:=0}"
# The model: its blocks, and the filters of the first stage.
: "${BLOCKS:=3:3:9:3}" "${FILTERS:=96}" "${STUDENT:=ConvNeXt-T.keras}"
# Distillation: the teacher, the images it teaches on, and the directory of optimization-log.tsv, which has the settings.
: "${TEACHER:=3DOFDB21kViTB16-224-TF}" "${TEACHER_CLASSES:=21000}" "${TEACHER_SIZE:=224}" "${TEACHER_EPOCHS:=32}"
: "${TEACHER_TRAIN:=3D-OFDB-21k-224-train-microcosm.tfr}" "${TEACHER_VALIDATION:=3D-OFDB-21k-224-test.tfr}"
: "${OPTIMIZATION_LOG:=$TOOLKIT/manual}"
# The classifier: its records, and how it learns from them.
: "${CLASSES:=17}" "${SIZE:=96}" "${EPOCHS:=4096}" "${QUANTITY_EPOCHS:=$EPOCHS}" "${BATCH:=256}" "${RATE:=0.00005}"
: "${TRAIN:=herbariograph-96-train.tfr}" "${VALIDATION:=herbariograph-96-validation.tfr}" "${TEST:=herbariograph-96-test.tfr}"
# The soup: the percentile that a model must reach.
: "${TILE:=60}"
# Prediction: the images, the table, and the model: a name, a file, or `soup` for the one just made.
: "${UNKNOWN:=image-directory}" "${OUTPUT:=file.tsv}" "${PREDICTOR:=ConvNeXt-N}"
# A page of the predictions, .html; empty for none.
: "${REPORT:=}"
# Further options, without blanks in them, of the stages that train, such as --deterministic, and of the prediction.
: "${TRAINING_OPTIONS:=}" "${PREDICTION_OPTIONS:=}"

case ${1-} in
    '') ;;
    -h | --help) comments_and_settings "$0"; exit ;;
    *) echo "chain.sh: $1 is not understood; settings come from the environment, and --help lists them" >&2; exit 2 ;;
esac

# Days may pass before a stage is reached: what it needs should be there now.
PYTHONPATH=$TOOLKIT${PYTHONPATH:+:$PYTHONPATH} python3 -m tools.chain_settings TEACHER="$TEACHER" \
    OPTIMIZATION_LOG="$OPTIMIZATION_LOG" TEACHER_TRAIN="$TEACHER_TRAIN" TEACHER_VALIDATION="$TEACHER_VALIDATION" \
    TRAIN="$TRAIN" VALIDATION="$VALIDATION" TEST="$TEST" UNKNOWN="$UNKNOWN" OUTPUT="$OUTPUT" PREDICTOR="$PREDICTOR" \
    ${REPORT:+REPORT="$REPORT"}

read -r -d '' -a training <<< "$TRAINING_OPTIONS" || true
read -r -d '' -a prediction <<< "$PREDICTION_OPTIONS" || true
if [ -n "$REPORT" ]; then
    prediction+=(--report "$REPORT")
fi
mkdir -p "$DIR"

stage "$TOOLKIT/convnext.py" -a "$TEACHER_CLASSES" -b 3 -e 4 -f gelu -i "$TEACHER_SIZE" -n "$BLOCKS" -o "$STUDENT" \
    -r "$SEED" -x "$FILTERS"
stage "$TOOLKIT/distillOptimizeImagesR.py" -a "$TEACHER_CLASSES" -e "$TEACHER_EPOCHS" -g "$GPU" -i "$TEACHER_SIZE" \
    -m "$TEACHER" -o "$DIR" -r "$SEED" -S "$TEACHER_SIZE" -s "$STUDENT" -t "$TEACHER_TRAIN" -v "$TEACHER_VALIDATION" \
    -l "$OPTIMIZATION_LOG" ${training[@]+"${training[@]}"}
ENCODER=$(newest best-model.keras)

# From the distilled encoder to the classifier, whose last layers alone are new.
REFERENCE=$DIR-classifier.keras
stage "$TOOLKIT/convnext.py" -a "$CLASSES" -b 3 -e 4 -f gelu -i "$SIZE" -n "$BLOCKS" -o "$REFERENCE" -r "$SEED" -x "$FILTERS"
MODEL=${ENCODER%/*}/tune-model.keras
stage "$TOOLKIT/convnextClassifier.py" -e "$ENCODER" -m "$REFERENCE" -o "$MODEL"

train() { # train SCRIPT EPOCHS LAYER OPTION…: train $MODEL from that layer on; the result is $MODEL then
    local script=$1 epochs=$2 layer=$3
    shift 3
    stage "$TOOLKIT/$script" -a "$CLASSES" -b "$BATCH" -d 0.00005 -e "$epochs" -f ce+clr+aw -g "$GPU" -i "$SIZE" \
        -l "$RATE" -m "$MODEL" -o "$DIR" "$@" -r "$SEED" -s "$layer" -t "$TRAIN" -v "$VALIDATION" \
        ${training[@]+"${training[@]}"}
    MODEL=$(newest best-model.keras)
}

# More and more of it learns, from the end to the beginning; the models of the last run's epochs are for the soup.
for LAYER in output_gap convNeXt{3,2,1}_downSample_layerNormalization; do
    train trainImagesC.py "$EPOCHS" "$LAYER"
done
train trainImagesC4096.py "$QUANTITY_EPOCHS" rescale -Q
stage "$TOOLKIT/imageSoup.py" -a "$CLASSES" -b "$BATCH" -d "$TRAIN" -g "$GPU" \
    -m "${MODEL%-best/best-model.keras}-intermediate" -o "$DIR" -T "$TILE" -v "$VALIDATION"
SOUP=$(newest soup-model.keras)
stage "$TOOLKIT/testImages.py" -a "$CLASSES" -b "$BATCH" -g "$GPU" -i "$SIZE" -m "$SOUP" -t "$TEST"

if [ "$PREDICTOR" == soup ]; then
    PREDICTOR=$SOUP
fi
stage "$TOOLKIT/predictImages.py" -b 1024 -g "$GPU" -d "$UNKNOWN" -m "$PREDICTOR" -o "$OUTPUT" -p 4 \
    ${prediction[@]+"${prediction[@]}"}
