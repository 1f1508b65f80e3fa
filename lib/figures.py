"""Pictures of what a model answered: confusion matrix, precision-recall curves, reliability."""

import numpy as np

from lib.files import whole_file


def draw_confusion(path, matrix, labels):
    """Draw a confusion matrix as a PNG, readable for a few categories and for a hundred.

    Args:
        path: the file to write.
        matrix: `(classes, classes)`: rows are the true categories.
        labels: the categories' names.
    """
    count = len(labels)
    # Numbers have room up to some thirty categories; with more the shades have to do.
    side = max(5.0, 0.42 * count + 2.5) if count <= 30 else max(12.0, 0.16 * count + 3)
    figure, axes = new_figure((side + 1, side))
    totals = matrix.sum(axis=1, keepdims=True).astype("float64")
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if count <= 30 else 6
    axes.set_xticks(np.arange(count), labels, rotation=90, fontsize=size)
    axes.set_yticks(np.arange(count), labels, fontsize=size)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    if count <= 30:
        for row, column in zip(*np.nonzero(matrix)):
            value = matrix[row, column]
            text = f"{value:,.0f}" if value == round(value) else f"{value:.3g}"
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=6 if len(text) > 4 else 7, color=colour)
    figure.colorbar(image, ax=axes, label="share of the true category", shrink=0.6)
    save_figure(figure, path)


def draw_precision_recall(path, curves, overall):
    """Draw precision-recall curves as a PNG.

    Args:
        path: the file to write.
        curves: for each category its name, recall, precision and average precision.
        overall: recall, precision and area of all categories together.
    """
    from matplotlib import colormaps

    figure, axes = new_figure((11, 7))
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, max(1, len(curves))))
    for (name, recall, precision, average), colour in zip(curves, colours):
        label = f"{name} ({average:.3f})" if len(curves) <= 40 else None
        axes.plot(recall, precision, color=colour, linewidth=1, label=label)
    recall, precision, area = overall
    axes.plot(recall, precision, color="black", linewidth=2, label=f"all together ({area:.3f})")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), title="average precision")
    save_figure(figure, path)


def draw_reliability(path, error, parts, certainty, right):
    """Draw how often answers of each certainty are right as a PNG; see `lib.uncertainty.calibration`."""
    figure, axes = new_figure((6, 6))
    bins = len(parts)
    edges = np.arange(bins) / bins
    there = parts > 0
    axes.bar(edges[there], right[there], 1 / bins, align="edge", color="#4477aa", edgecolor="white", label="right")
    axes.plot([0, 1], [0, 1], color="black", linestyle="--", label="as certain as right")
    axes.plot(certainty[there], right[there], "o", color="#cc6677", markersize=4, label="at the mean certainty")
    for left, share, height in zip(edges[there], parts[there], right[there]):
        text = f"{100 * share:.0f}%" if share >= 0.005 else "<1%"
        axes.text(left + 0.5 / bins, min(height + 0.01, 0.97), text, ha="center", fontsize=7)
    axes.set(xlabel="certainty of the answer", ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"expected calibration error {error:.3f}; above the bars: share of the images", fontsize=9)
    axes.legend(loc="upper left", fontsize=8)
    save_figure(figure, path)


def new_figure(size, *rows, **options):
    """An empty matplotlib figure of `size` inches and its axes; further arguments as of `Figure.subplots`."""
    # Here, since it takes a while to import. Not by pyplot, which keeps every figure and may want a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(*rows, **options)


def save_figure(figure, path):
    """Write a figure as a PNG."""
    with whole_file(path, "wb") as file:
        figure.savefig(file, format="png", dpi=120)
