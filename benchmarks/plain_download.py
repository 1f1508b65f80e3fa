"""Downloading as one would write it first: `plain_download.py TABLE.csv`, one file after the other."""

import csv
import os
import sys
import tempfile

import requests

with tempfile.TemporaryDirectory() as folder, open(sys.argv[1], encoding="utf-8", newline="") as table:
    for row in csv.DictReader(table):
        response = requests.get(row["identifier"], timeout=60)
        response.raise_for_status()
        with open(os.path.join(folder, f"{row['id']}.jpg"), "wb") as file:
            file.write(response.content)
