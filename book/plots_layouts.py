"""What the chapter on layouts of today draws."""

from matplotlib.patches import Patch, Rectangle

from plots import BLUE, FAINT, ORANGE, SKY, Plot, axes


def layers(models):
    """A row of squares for each model, one for each layer: by the base of its rotation, or none."""
    kinds = {
        "not rotated": FAINT,
        "10,000": SKY,
        "50,000 to 500,000": BLUE,
        "1,000,000 and more": ORANGE,
    }

    def kind(base):
        if base is None:
            return "not rotated"
        if base <= 1e4:
            return "10,000"
        return "50,000 to 500,000" if base < 1e6 else "1,000,000 and more"

    figure, ax = axes(width=6.4, height=0.42 * len(models) + 0.8)
    ax.grid(visible=False)
    for row, bases in enumerate(models.values()):
        for column, base in enumerate(bases):
            color = kinds[kind(base)]
            ax.add_patch(Rectangle((column + 0.1, row + 0.15), 0.8, 0.7, color=color))
    ax.set(xlim=(0, max(map(len, models.values()))), ylim=(len(models), 0), xlabel="layer")
    ax.set_yticks([row + 0.5 for row in range(len(models))], list(models))
    handles = [Patch(color=color, label=name) for name, color in kinds.items()]
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4, fontsize=8)
    words = "; ".join(
        f"{name}: {', '.join(kind(base) for base in bases)}" for name, bases in models.items()
    )
    return Plot(
        figure,
        f"""One row of squares for each model, a square for each of its first layers, colored by the base of its
        rotation, or light gray where it does not rotate. From the first layer on, {words}.""",
    )
