"""The keys and filters of the vector store."""

from hypothesis import given
from hypothesis import strategies as st

from infra.vectors.schema import keys_filter, primary_key, scope_filter, scope_key
from modelpilot.requests.records import HistoryScope


@given(user=st.text(max_size=20), router=st.text(max_size=20))
def test_filters_hold_no_foreign_characters(user: str, router: str) -> None:
    """Whatever an id contains, the filter expression consists of our words and hex digits."""
    scope = HistoryScope(user, router)
    allowed = set('0123456789abcdef" =scope')
    assert set(scope_filter(scope)) <= allowed
    assert keys_filter([primary_key(scope, router, user)]).count('"') == 2


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_different_scopes_have_different_keys(user: str, router: str, user2: str, router2: str) -> None:
    """No concatenation of ids makes two tenants meet."""
    same = (user, router) == (user2, router2)
    assert (scope_key(HistoryScope(user, router)) == scope_key(HistoryScope(user2, router2))) == same
