"""Figures of a model's answers: confusion matrix, precision-recall curves, reliability."""

import numpy as np

from lib.storage.files import whole_file

_NAMED_CURVES, _WORST_CURVES = 40, 10


def draw_confusion(path, matrix, labels):
    """Draw a confusion matrix as a PNG, readable for a few categories and for a hundred.

    For more than thirty categories the numbers are left out, and the shades stress small shares.

    Args:
        path: the file to write.
        matrix: `(categories, categories)`: rows are the true categories.
        labels: the categories' names.
    """
    from matplotlib.colors import PowerNorm

    count = len(labels)
    side = max(5.0, 0.42 * count + 2.5) if count <= 30 else max(12.0, 0.16 * count + 3)
    figure, axes = new_figure((side + 1, side))
    totals = matrix.sum(axis=1, keepdims=True).astype("float64")
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(1 if count <= 30 else 0.5, 0, 1))
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
    """Draw precision-recall curves as a PNG. Of many only the worst are named; the others are grey.

    Args:
        path: the file to write.
        curves: for each category its name, recall, precision and average precision.
        overall: recall, precision and area of all categories together.
    """
    from matplotlib import colormaps

    figure, axes = new_figure((11, 7))
    if len(curves) > _NAMED_CURVES:
        curves = sorted(curves, key=lambda curve: curve[3])
        for place, (_, recall, precision, _) in enumerate(curves[_WORST_CURVES:]):
            label = f"the {len(curves) - _WORST_CURVES} others" if place == 0 else None
            axes.plot(recall, precision, color="#cccccc", linewidth=0.5, label=label)
        curves = curves[:_WORST_CURVES]
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, max(1, len(curves))))
    for (name, recall, precision, average), colour in zip(curves, colours):
        axes.plot(recall, precision, color=colour, linewidth=1, label=f"{name} ({average:.3f})")
    recall, precision, area = overall
    axes.plot(recall, precision, color="black", linewidth=2, label=f"all together ({area:.3f})")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), title="average precision")
    save_figure(figure, path)


def draw_reliability(path, error, shares, confidences, accuracies):
    """Draw the accuracy at each confidence as a PNG, and below it the share of images with that confidence.

    Args:
        path: the file to write.
        error, shares, confidences, accuracies: of `lib.measures.uncertainty.calibration`.
    """
    figure, (above, below) = new_figure((6, 7.5), 2, 1, sharex=True, height_ratios=(4, 1))
    occupied, width = shares > 0, 1 / len(shares)
    edges, shares = np.flatnonzero(occupied) * width, shares[occupied]
    confidences, accuracies = confidences[occupied], accuracies[occupied]
    bars = {"align": "edge", "edgecolor": "white"}
    above.bar(edges, accuracies, width, color="#4477aa", label="right", **bars)
    above.plot([0, 1], [0, 1], color="black", linestyle="--", label="as certain as right")
    points = {"color": "#cc6677", "markersize": 4, "clip_on": False, "label": "at the mean certainty"}
    above.plot(confidences, accuracies, "o", **points)
    above.set(ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1))
    above.set_title(f"expected calibration error {error:.3f}", fontsize=9)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    below.bar(edges, shares, width, color="#999999", **bars)
    for left, share in zip(edges, shares):
        text = f"{100 * share:.0f}%" if share >= 0.005 else "<1%"
        below.text(left + width / 2, share + 0.02 * shares.max(), text, ha="center", fontsize=7)
    below.set(xlabel="certainty of the answer", ylabel="share of images", ylim=(0, 1.25 * shares.max()))
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
