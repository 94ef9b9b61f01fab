"""What speed.md shows of speed.json as tables."""

import html


class Table:
    """What was measured for one use: for each case, the shape and dtype with the largest ratio."""

    def __init__(self, found, use, *, nj_per_byte):
        worst = {}
        for row in found["ratios"]:
            if row["use"] == use:
                key = row["case"], row["against"]
                if key not in worst or row["ratio"] > worst[key]["ratio"]:
                    worst[key] = row
        self.rows, self.nj_per_byte = list(worst.values()), nj_per_byte

    def _cells(self, row):
        kib = row["kib_per_token"]
        yield f"{row['case']} / {row['against']}"
        yield " ".join(filter(None, (row["shape"], row["dtype"])))
        yield from (_duration(row[key]) for key in ("ours_ms", "peer_ms"))
        yield f"{row['ratio']:.2g}"
        yield "" if row["limit"] is None else f"{row['limit']:g}"
        yield "" if row["verdict"] == "for information" else row["verdict"]
        yield "" if kib is None else f"{kib:g}"
        yield "" if kib is None else f"{kib * 1024 * self.nj_per_byte / 1e3:.2g}"

    def _repr_html_(self):
        head = ("case", "array", "ours", "peer", "ratio", "limit", "verdict", "KiB", "µJ")
        lines = ["".join(f"<th>{name}</th>" for name in head)]
        for row in self.rows:
            lines.append("".join(f"<td>{html.escape(cell)}</td>" for cell in self._cells(row)))
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f'<table class="speed">{body}</table>'


def _duration(ms):
    if ms >= 1000:
        return f"{ms / 1e3:.3g} s"
    return f"{ms:.3g} ms" if ms >= 1 else f"{1e3 * ms:.3g} µs"
