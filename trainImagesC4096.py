#!/usr/bin/env python3
"""Train like trainImagesC.py, but stop only after 4096 epochs in a row without a better validation macro F1.

Example: ./trainImagesC4096.py -a 17 -b 256 -e 4096 -i 96 -m best-model.keras -o runs -Q -t sample-train.tfr -v \
sample-validation.tfr
"""

import sys

from trainImagesC import main

PATIENCE = 4096  # epochs

if __name__ == "__main__":
    sys.exit(main(documentation=__doc__, patience=PATIENCE))
