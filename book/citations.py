"""A Sphinx extension: in the bibliography, labels are what the text says: Su et al. [2021]."""

from collections import Counter

from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style as UnsortedStyle
from pybtex.style.labels import BaseLabelStyle


class AuthorYearLabels(BaseLabelStyle):
    """Last names and a year; a letter more where several works have the same."""

    def format_labels(self, sorted_entries):
        """The label of each entry."""
        labels = [
            f"{_names(e.persons['author'])}, {e.fields.get('year', 'no year')}"
            for e in sorted_entries
        ]
        several = {label for label, count in Counter(labels).items() if count > 1}
        seen = Counter()
        for label in labels:
            seen[label] += 1
            yield label + (chr(ord("a") + seen[label] - 1) if label in several else "")


def _names(persons):
    last = [_last(person) for person in persons]
    if len(last) > 2 or last[-1] == "others":
        return f"{last[0]} et al."
    return " and ".join(last)


def _last(person):
    return " ".join(str(name) for name in [*person.rich_prelast_names, *person.rich_last_names])


class AuthorYearStyle(UnsortedStyle):
    """As ``alpha``, sorted by author and year, with these labels."""

    default_label_style = AuthorYearLabels
    default_sorting_style = "author_year_title"


def setup(app):
    register_plugin("pybtex.style.formatting", "rope_xp", AuthorYearStyle)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
