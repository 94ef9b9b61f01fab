"""What speed.md shows of speed.json, and peers.md of peers.json, as tables."""

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
        return _table(head, map(self._cells, self.rows))


class Findings:
    """What `diagnose` and `check` say of what others publish, a row for each."""

    def __init__(self, found):
        self.rows = found

    def _cells(self, row):
        found = row["diagnosis"]
        yield f"{row['package']} {row['version']}: {row['name']}"
        yield " → ".join(filter(None, (found["layout"], found["output_layout"])))
        yield found["rotary"].replace(" to ", "–")
        yield f"{found['base']:.8g}"
        yield (found["scaling"] or "").partition("(")[0]
        yield f"{found['attention_factor']:.4g}"
        yield found["precision"] if found["rope"] else ""  # none was found that fits
        yield f"{row['error']:.1g} at {row['max_position'] - 1:,}"
        rounded = "float32" if row["float32"] == "passes" else "refused"
        yield "exact" if row["exact"] == "passes" else rounded

    def _repr_html_(self):
        head = ("", "pairs", "features", "base", "schedule", "factor", "angles", "error", "check")
        return _table(head, map(self._cells, self.rows))


def _table(head, rows):
    lines = ["".join(f"<th>{name}</th>" for name in head)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table class="speed">{body}</table>'


def _duration(ms):
    if ms >= 1000:
        return f"{ms / 1e3:.3g} s"
    return f"{ms:.3g} ms" if ms >= 1 else f"{1e3 * ms:.3g} µs"
