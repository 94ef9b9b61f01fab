"""What the chapter on a model's pairs draws, of model_pairs.json and of what the page computes."""

import matplotlib as mpl
import numpy as np

from plots import BLUE, GREEN, GREY, INK, PURPLE, RED, Plot, axes

TICKS = range(0, 33, 4)


def _range(ax, x, rows, color, **options):
    """The mean of the rows as a line, and a pale band from the lowest to the highest."""
    rows = np.asarray(rows)
    ax.fill_between(x, rows.min(0), rows.max(0), color=color, alpha=0.25, linewidth=0)
    ax.plot(x, rows.mean(0), color=color, **options)


def _means(rows):
    return ", ".join(f"{value:.2f}" for value in np.mean(rows, axis=0))


def products(found):
    """Layers by pairs: mean |q| times mean |k|, on a logarithmic scale of colors."""
    found = np.asarray(found)
    figure, ax = axes(width=7.2, height=4.6)
    ax.grid(visible=False)
    norm = mpl.colors.LogNorm(1, found.max())
    drawn = ax.pcolormesh(found, norm=norm, cmap="viridis", rasterized=True)
    ax.set(xlabel="pair $i$, fast to slow", ylabel="layer")
    ax.set_xticks(np.arange(0, 32, 4) + 0.5, [*range(0, 32, 4)])
    ax.set_yticks(np.arange(0, 30, 5) + 0.5, [*range(0, 30, 5)])
    ax.invert_yaxis()
    bar = figure.colorbar(drawn, ax=ax, pad=0.02, ticks=[1, 3, 10, 30, 100], format="%g")
    bar.minorticks_off()
    layers, pairs = np.unravel_index(np.argsort(-found, axis=None)[:3], found.shape)
    top = "; ".join(
        f"{found[a, b]:.0f} in layer {a}, pair {b}" for a, b in zip(layers, pairs, strict=True)
    )
    return Plot(
        figure,
        f"""A map with 30 rows, the layers, and 32 columns, the pairs. The pairs below 16 have the color of low
        values nearly everywhere, on average {found[:, :16].mean():.1f}. From pair 22 to 25 bright cells form a vertical
        band through most layers, on average {found[:, 22:26].mean():.1f}; other bright cells are in pairs 29 to 31, on average
        {found[:, 29:].mean():.1f}, mostly in later layers. The largest values are {top}.""",
    )


def angles(angle, constant, inv_freq, pairs, length):
    """The angle between mean key and mean query over heads, for pairs; shaded where a term stays negative."""
    figure, panels = axes(1, len(pairs), width=7.2, height=2.8, sharey=True)
    described, step = [], 15
    bins = np.arange(-180, 181, step)
    for panel, i in zip(panels, pairs, strict=True):
        shown = angle[:, :, i][constant[:, :, i]]
        end = 270 - np.degrees(length * inv_freq[i])
        if end > 90:
            panel.axvspan(90, min(end, 180), color=GREY, alpha=0.3, linewidth=0)
            if end > 180:
                panel.axvspan(-180, end - 360, color=GREY, alpha=0.3, linewidth=0)
        panel.hist(shown, bins, color=BLUE)
        panel.set(xlabel="angle, degrees", xticks=[-180, -90, 0, 90, 180])
        panel.set_title(f"pair {i}, {len(shown)} heads", fontsize=9)
        counts = np.histogram(shown, bins)[0]
        most = np.argmax(counts)
        described.append(
            f"pair {i}: {len(shown)} heads, most, {counts[most]}, from {bins[most]} to {bins[most] + step}"
        )
    panels[0].set_ylabel("heads")
    return Plot(
        figure,
        f"""{len(pairs)} histograms of angles from -180 to 180 degrees, in steps of {step}, one for each pair: {"; ".join(described)}.
        In the panels of the slow pairs a range that begins at 90 is shaded.""",
    )


def attention(weights, words, titles):
    """Maps of the attention weights of heads, queries by keys."""
    figure, panels = axes(1, len(titles), width=8.4, height=3.3, sharey=True)
    at = np.arange(len(words))
    hidden = np.triu(np.ones((len(words), len(words)), bool), 1)
    for panel, title, one in zip(panels, titles, weights, strict=True):
        panel.grid(visible=False)
        shown = np.ma.masked_where(hidden, one)
        drawn = panel.pcolormesh(at, at, shown, vmin=0, vmax=1, cmap="viridis", rasterized=True)
        panel.set_xticks(at, words, rotation=90, fontsize=7.5)
        panel.set_yticks(at, words, fontsize=7.5)
        panel.set_title(title, fontsize=9)
        panel.set(xlabel="key", aspect="equal")
    panels[0].invert_yaxis()
    panels[0].set_ylabel("query")
    figure.colorbar(drawn, ax=panels, pad=0.01, label="weight", shrink=0.7)
    rows = np.arange(1, len(words))
    return Plot(
        figure,
        f"""Three triangular maps of weights from 0 to 1 for the {len(words)} tokens {" ".join(words)}: a row for each query, a
        column for each key. {titles[0]}: the cells below the diagonal are bright, {weights[0][rows, rows - 1].mean():.2f} on average. {titles[1]}:
        the first column is bright in all rows, {weights[1][rows, 0].mean():.2f} on average. {titles[2]}: most rows are bright
        in the first column, and some words that were there before are bright in the rows where they return.""",
    )


def terms(previous, sinks, content):
    """By pair, how terms of scores differ: between distances, between the first key and others, by content."""
    figure, panels = axes(1, 3, width=8.4, height=3.0)
    first, second, third = panels
    i = np.arange(32)
    for rows, label, color, dash in zip(
        previous, ("distance 1 minus 2", "distance 1 minus 10"), (BLUE, GREEN), "-:", strict=True
    ):
        _range(first, i, rows, color, label=label, linestyle=dash, marker=".")
    _range(second, i, sinks[0], RED, label="first key", linestyle="-", marker=".")
    _range(second, i, sinks[1], GREY, label="other keys", linestyle="--", marker=".")
    gain = content[0] - content[1]
    _range(third, i, gain, PURPLE, label="suggested minus others", linestyle="-", marker=".")
    for ax, title in zip(panels, ("previous-token head", "sinks", "content heads"), strict=True):
        ax.set_title(title, fontsize=9)
        ax.set(xlabel="pair $i$, fast to slow", xticks=TICKS[:-1])
        ax.legend(fontsize=8)
    first.set_ylabel("term of the score")
    one, ten = (np.mean(rows, axis=0) for rows in previous)
    means, gain = [np.mean(rows, axis=0) for rows in sinks], gain.mean(0)
    rest = max(ten[1], ten[4:].max())
    return Plot(
        figure,
        f"""Three panels over the 32 pairs. Previous-token head: how much more a pair adds at distance 1 than at 2 is
        {one[0]:.2f} for pair 0, {one[1]:.2f} for pair 1, and between {one[2:].min():.2f} and {one[2:].max():.2f} for all others;
        than at 10, {ten[0]:.1f} for pair 0, {ten[2]:.1f} and {ten[3]:.1f} for pairs 2 and 3 and at most {rest:.1f} for the others.
        Sinks: both curves are near zero for pairs below 10. For other keys it is lowest at pair 24, {means[1][24]:.2f}, and at
        pair 31, {means[1][31]:.2f}; for the first key it rises above zero at the end, to {means[0][31]:.2f} at pair 31.
        Content heads: from zero for the fast pairs the curve rises to {gain[20]:.2f} at pair 20 and {gain[28]:.2f} at pair 28.""",
    )


def bands(loss, bounds):
    """Loss without turning four pairs, and without the pairs: mean and range of the texts."""
    figure, panels = axes(1, 2, width=7.2, height=3.0, sharey=True)
    names = [f"{low}-{high}" for low, high in bounds]
    unchanged = np.mean(loss["unchanged"])
    x = np.arange(len(names))
    for panel, what, color in zip(panels, ("not turned", "removed"), (BLUE, RED), strict=True):
        rows = np.asarray(loss[what])
        panel.axhline(unchanged, color=GREY, linewidth=0.8, linestyle="--")
        panel.bar(x, rows.mean(0), color=color, width=0.6)
        panel.vlines(x, rows.min(0), rows.max(0), color=INK, linewidth=1)
        panel.set_title(what, fontsize=9)
        panel.set_xticks(x, names, fontsize=8, rotation=45)
        panel.set_xlabel("pairs, fast to slow")
    panels[0].set(ylabel="loss, nats per token", ylim=(0, 1.05 * np.max(loss["removed"])))
    return Plot(
        figure,
        f"""Two panels of eight bars, one for each four pairs, with lines for the range of the texts and a dashed line at
        {unchanged:.2f}, the loss of the unchanged model. Not turned, from the fastest: {_means(loss["not turned"])}.
        Removed: {_means(loss["removed"])}.""",
    )


def truncated(found):
    """Loss against the number of pairs that turn: the fastest or the slowest; and on long texts."""
    turning, long_turning = found["turning"], found["long turning"]
    loss, long_loss = found["loss"], found["long loss"]
    length, long_length = found["tokens"]["texts"], found["tokens"]["long"]
    figure, panels = axes(1, 2, width=7.2, height=3.0, sharey=True)
    first, second = panels
    _range(first, turning, loss["fastest turn"], BLUE, label="the fastest turn", marker=".")
    _range(
        first,
        turning,
        loss["slowest turn"],
        RED,
        label="the slowest turn",
        linestyle="--",
        marker="x",
    )
    _range(second, long_turning, long_loss, BLUE, label="the fastest turn", marker=".")
    for ax, n in ((first, length), (second, long_length)):
        ax.set_title(f"{n:,} tokens", fontsize=9)
        ax.set(xlabel="pairs that turn, of 32", xticks=TICKS, xlim=(-1, 33))
        ax.legend(fontsize=8)
    first.set(ylabel="loss, nats per token", ylim=(0, 1.05 * np.max(loss["slowest turn"])))
    counts = ", ".join(map(str, turning))
    return Plot(
        figure,
        f"""Two panels. {length} tokens, {counts} pairs turning. If the fastest turn, the mean loss is
        {_means(loss["fastest turn"])}: it falls steeply and is flat from 20 on. If the slowest turn,
        {_means(loss["slowest turn"])}: it is high until nearly all turn. {long_length} tokens, if the fastest
        {", ".join(map(str, long_turning))} turn: {_means(long_loss)}.""",
    )


def bounds(curves, trivial, abel, titles):
    """The size of a mean score by distance beside two bounds, a panel for each head."""
    figure, panels = axes(1, len(titles), width=8.4, height=3.2, sharey=True)
    r = np.arange(curves.shape[-1])
    for panel, title, curve, low, high in zip(panels, titles, curves, trivial, abel, strict=True):
        panel.semilogy(r, high, color=GREEN, linestyle="-.", label="Abel bound")
        panel.axhline(low, color=RED, linestyle="--", label="trivial bound")
        panel.semilogy(r, np.abs(curve), color=BLUE, linestyle="-", label="|score|", linewidth=1)
        panel.set_title(title, fontsize=9)
        panel.set(xlabel="distance (positions)", ylim=(0.02, None))
    panels[0].set_ylabel("score")
    panels[0].legend(fontsize=8, loc="lower right")
    numbers = "; ".join(
        f"{title}: score at most {np.abs(c).max():.1f}, trivial bound {t:.1f}, Abel bound from {a.min():.0f} to {a.max():.0f}"
        for title, c, t, a in zip(titles, curves, trivial, abel, strict=True)
    )
    return Plot(
        figure,
        f"""Three panels with a logarithmic vertical axis over distances to {r[-1]}: the size of the score of the mean query and
        the mean key, a horizontal dashed line above it, the trivial bound, and far above both the Abel bound, which falls and
        then wanders. {numbers}.""",
    )
