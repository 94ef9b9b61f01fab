"""`families.json`: every line of it."""


def test_every_family_of_the_table_has_its_group_and_its_source():
    held = table()
    assert len(held["models"]) >= 239
    assert set(held["vision_part_of"].values()) <= set(held["models"])
    assert not set(held["vision_part_of"]) & set(held["models"])
    left_out = [name for names in held["left_out"].values() for name in names]
    assert not set(left_out) & set(held["models"])
    assert set(held["text_part_of"].values()) <= set(held["models"])
    for name, family in held["models"].items():
        assert family["layout"] in ("half", "interleaved"), name
        assert "modeling_" in family["source"], name
