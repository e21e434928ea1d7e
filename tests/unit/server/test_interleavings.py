"""Any order of what several clients may do: requests, cancellations, disconnections."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firsttoken.server import protocol
from unit.server.served import Peer, served

request_numbers = st.integers(0, 3)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("generate"), st.integers(0, 2), request_numbers, st.integers(1, 4)),
        st.tuples(st.just("cancel"), st.integers(0, 2), request_numbers, st.just(0)),
        st.tuples(st.just("disconnect"), st.integers(0, 2), st.just(0), st.just(0)),
        st.tuples(st.just("step"), st.just(0), st.just(0), st.integers(1, 4)),
    ),
    max_size=25,
)


@given(script=operations)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # two cores may be busy
def test_any_interleaving_keeps_order_ownership_and_the_promise_of_cancel(
    script: list[tuple[str, int, int, int]],
) -> None:
    with served() as running:
        peers: dict[int, Peer] = {}
        asked: dict[tuple[int, int], int] = {}  # (peer, request) -> tokens
        left: set[int] = set()
        for operation, who, number, amount in script:
            if operation == "step":
                running.engine.permits.release(amount)
                continue
            if who in left:
                continue
            peer = peers.setdefault(who, peers.get(who) or Peer(running.address))
            if operation == "disconnect":
                peer.socket.close()
                left.add(who)
            elif operation == "cancel":
                peer.send(protocol.Cancel(number))
            elif (who, number) not in asked:
                asked[who, number] = amount
                running.ask(peer, protocol.Generate(number, [100 * who + number + 1], amount))
        running.engine.free.set()

        for who in peers.keys() - left:
            for _ in range(sum(owner == who for owner, _ in asked)):
                peers[who].read_until(protocol.Done)
        cancelled = {(who, number) for operation, who, number, _ in script if operation == "cancel"}
        delivered: list[int] = []
        for (who, number), amount in asked.items():
            if who in left:
                continue
            peer = peers[who]
            mine = [m for m in peer.seen if getattr(m, "request", None) == number]
            assert isinstance(mine[-1], protocol.Done), "nothing comes after the end of a request"
            assert sum(isinstance(m, protocol.Done) for m in mine) == 1
            tokens = peer.tokens(number)
            assert not tokens or tokens == list(range(tokens[0], tokens[0] + len(tokens)))
            assert len(tokens) == amount or (who, number) in cancelled
            stamps = [stamp for m in mine if isinstance(m, protocol.Timings) for stamp in m.pushed_ns]
            assert len(stamps) in ({len(tokens), 0} if (who, number) in cancelled else {len(tokens)})
            delivered += tokens
        assert len(delivered) == len(set(delivered)), "a token went to two requests"
        if not left:
            assert sorted(delivered) == list(range(1, running.engine.token + 1)), "a token was lost"
        order = [job.request.prompt_ids[0] for job in running.queued if isinstance(job.request, protocol.Generate)]
        places = [order.index(prompt) for prompt in running.engine.prompts]
        assert places == sorted(places), "requests ran in another order than they came"
