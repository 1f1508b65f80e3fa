# The toolkit on a GPU, with the TensorFlow that the published models were made with (Python 3.8).
#
#   docker build -t herbariograph .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/data" herbariograph predictImages.py -d images -o predictions.tsv
FROM tensorflow/tensorflow:2.13.0-gpu

WORKDIR /opt/herbariograph
COPY requirements.txt requirements-predict.txt ./
RUN python3 -m pip install --no-cache-dir -r requirements.txt
COPY LICENSE *.py *.sh ./
COPY lib ./lib
COPY manual ./manual
COPY tools ./tools

# Published models are kept beside the data, since what lies in the container goes with it.
ENV PATH="/opt/herbariograph:${PATH}" \
    HERBARIOGRAPH_MODELS=/data/models

RUN useradd --create-home --uid 1000 herbariograph
USER 1000
WORKDIR /data
CMD ["predictImages.py", "--help"]
