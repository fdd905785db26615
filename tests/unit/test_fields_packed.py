"""Fields that are kept as texts are what they were when they are taken out."""

from __future__ import annotations

import copy
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.packed import PackedFields
from hcpl_kernel.fields.remote import RemoteFile

texts = st.text(st.characters(exclude_characters="\0"), max_size=8)
paths = st.none() | texts.map(Path) | st.builds(Path, texts, texts)
urls = st.sampled_from(["s3://bucket/a/b.tif", "https://x.org/i.png?size=1/2#z", "file:///a/b", "s3://b/"]).map(RemoteFile)
fields = st.builds(
    FieldFiles,
    texts,
    st.dictionaries(st.sampled_from(["red", "green", "blue", "yellow", "file"]), paths | urls),
    st.sampled_from(["planes", "stacks"]),
    st.dictionaries(st.sampled_from(["red", "green"]), texts),
    st.dictionaries(texts, texts, max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(fields, max_size=6))
def test_packed_fields_come_out_as_they_went_in(given: list[FieldFiles]) -> None:
    packed = PackedFields(given)
    assert list(packed) == given and packed == given and len(packed) == len(given)
    assert list(packed[1:3]) == given[1:3]
    assert copy.deepcopy(packed[:2]) == tuple(given[:2])  # by what pickle uses
    assert list(packed.chosen(range(len(given) - 1, -1, -1))) == given[::-1]


def test_a_path_with_surrogates_and_odd_separators() -> None:
    files = FieldFiles("a", {"file": Path("/x/\udcff,\t\n\"'.png"), "red": Path("//server/x"), "green": Path("a:/b")})
    assert PackedFields([files])[0] == files
