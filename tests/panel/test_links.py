"""Links into the panel open it once, for one customer, for a while."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.panel import links
from app.panel.links import (
    BadReturnUrl,
    LinkExpired,
    LinkUnknown,
    LinkUsed,
    begin_session,
    claim_link,
    create_link,
    open_session,
)
from app.panel.tables import PanelLink
from tests.panel.conftest import Site, at

NOW = at("2026-11-16T12:00")


@pytest.fixture
def acme(site: Site) -> UUID:
    return site.customer("acme")


def test_a_link_is_claimed_once(session: Session, acme: UUID) -> None:
    token = create_link(session, customer_id=acme, return_url="https://platform.test/", now=NOW)
    assert claim_link(session, token=token, now=NOW).customer_id == acme
    with pytest.raises(LinkUsed):
        claim_link(session, token=token, now=NOW)


def test_of_ten_claims_at_once_one_succeeds(engine: Engine, session: Session, acme: UUID) -> None:
    token = create_link(session, customer_id=acme, return_url=None, now=NOW)
    session.commit()

    def claims() -> bool:
        with Session(engine) as own, own.begin():
            try:
                claim_link(own, token=token, now=NOW)
            except LinkUsed:
                return False
            return True

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(lambda _: claims(), range(10))) == 1


def test_a_link_expires_exactly_at_its_time(session: Session, acme: UUID) -> None:
    token = create_link(session, customer_id=acme, return_url=None, now=NOW)
    with pytest.raises(LinkExpired):
        claim_link(session, token=token, now=NOW + links.LINK_TTL)
    claim_link(session, token=token, now=NOW + links.LINK_TTL - timedelta(microseconds=1))


def test_an_unknown_link_opens_nothing(session: Session) -> None:
    with pytest.raises(LinkUnknown):
        claim_link(session, token="made-up", now=NOW)


def test_the_database_never_sees_the_token(session: Session, acme: UUID) -> None:
    token = create_link(session, customer_id=acme, return_url=None, now=NOW)
    (row,) = session.scalars(select(PanelLink))
    assert token not in str(vars(row))
    assert row.token_hash == links.hash_token(token)


def test_only_its_own_key_opens_a_session(session: Session, acme: UUID) -> None:
    """Not the link's token, which stands in histories and logs, and nothing that is kept in the database."""
    token = create_link(session, customer_id=acme, return_url=None, now=NOW)
    assert open_session(session, key=token, now=NOW) is None
    key = begin_session(session, claim_link(session, token=token, now=NOW))
    for wrong in (token, links.hash_token(token), links.hash_token(key), ""):
        assert open_session(session, key=wrong, now=NOW) is None
    opened = open_session(session, key=key, now=NOW)
    assert opened is not None
    session.refresh(opened)
    assert key not in str(vars(opened))


def test_links_long_expired_are_removed_when_new_ones_are_made(session: Session, acme: UUID) -> None:
    create_link(session, customer_id=acme, return_url=None, now=NOW)
    create_link(session, customer_id=acme, return_url=None, now=NOW + links.LINK_TTL + links.KEPT)
    assert session.scalar(select(func.count()).select_from(PanelLink)) == 2
    create_link(
        session, customer_id=acme, return_url=None, now=NOW + links.LINK_TTL + links.KEPT + timedelta(seconds=1)
    )
    assert session.scalar(select(func.count()).select_from(PanelLink)) == 2


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "//elsewhere.test/", "/billing", "https://", "https://[", "https://a.test/\n", "h" * 3000],
)
def test_a_return_url_is_an_address_of_the_web(session: Session, acme: UUID, url: str) -> None:
    with pytest.raises(BadReturnUrl) as refused:
        create_link(session, customer_id=acme, return_url=url, now=NOW)
    assert "return_url" in str(refused.value)
