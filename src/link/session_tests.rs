use super::*;
use proptest::prelude::*;

const S: fn(u64) -> Mono = |s| Mono(s * 1_000_000_000);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

fn presence() -> Presence {
    Presence {
        topics: Topics::of("e-1"),
        online: b"on".into(),
        offline: b"off".into(),
    }
}

fn connected(reason: u8) -> Incoming {
    Incoming::Connected {
        reason,
        session_present: false,
        keep_alive: None,
        max_packet: None,
    }
}

fn command(n: u16) -> Incoming {
    Incoming::Published {
        topic: b"edge/v1/e-1/down/cmd".into(),
        payload: n.to_be_bytes().into(),
        id: Some(n),
    }
}

fn twin(n: u16) -> Incoming {
    Incoming::Published {
        topic: b"edge/v1/e-1/down/twin".into(),
        payload: n.to_be_bytes().into(),
        id: Some(n),
    }
}

fn publication() -> Publication {
    Publication {
        topic: "t".into(),
        payload: b"p".into(),
        retain: false,
    }
}

fn sent_id(actions: &[Action]) -> u16 {
    match actions {
        [.., Action::Send(Outgoing::Publish { id: Some(id), .. })] => *id,
        other => panic!("{other:?}"),
    }
}

/// A session that is up at `now`.
fn up(now: Mono) -> Session {
    let (mut s, first) = Session::begin(presence(), KEEP_ALIVE, now);
    assert!(matches!(
        first[..],
        [Action::Send(Outgoing::Connect { .. })]
    ));
    let actions = s.packet(now, connected(0));
    let [Action::Send(Outgoing::Subscribe { id, filters })] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(filters.len(), 3);
    let codes = vec![1, 1, 0];
    let actions = s.packet(now, Incoming::Subscribed { id: *id, codes });
    let id = sent_id(&actions);
    assert!(!s.worked() && !s.ready(now));
    assert_eq!(
        s.packet(now, Incoming::Acked { id, reason: 0 }),
        [Action::Up]
    );
    assert!(s.worked() && s.ready(now));
    s
}

fn ended(actions: &[Action]) -> Option<&Ended> {
    match actions {
        [.., Action::End(e)] => Some(e),
        _ => None,
    }
}

#[test]
fn silence_ends_each_stage_in_its_time() {
    let (mut s, _) = Session::begin(presence(), KEEP_ALIVE, S(0));
    assert_eq!(s.deadline(), S(10));
    assert_eq!(s.tick(S(9)), []);
    assert_eq!(ended(&s.tick(S(10))), Some(&Ended::NoConnack));

    let (mut s, _) = Session::begin(presence(), KEEP_ALIVE, S(0));
    s.packet(S(1), connected(0));
    assert_eq!(s.deadline(), S(16));
    assert_eq!(ended(&s.tick(S(16))), Some(&Ended::NoSuback));

    let mut s = up(S(0));
    s.publish(S(1), publication());
    assert_eq!(s.deadline(), S(16));
    assert_eq!(ended(&s.tick(S(16))), Some(&Ended::NoPuback));
}

#[test]
fn a_dead_peer_is_known_within_two_keep_alives() {
    for frozen_at in 0..120 {
        let mut s = up(S(0));
        let mut now = S(0);
        let dead = loop {
            now = now.max(s.deadline());
            let actions = s.tick(now);
            if ended(&actions) == Some(&Ended::NoPong) {
                break now;
            }
            if actions.contains(&Action::Send(Outgoing::Ping)) && now < S(frozen_at) {
                assert_eq!(s.packet(now, Incoming::Pong), []);
            }
        };
        let took = dead.since(S(frozen_at)).as_secs();
        assert!(took <= 45, "frozen at {frozen_at}: {took} s");
    }
}

#[test]
fn what_the_broker_says_of_a_publication_reaches_its_owner() {
    for (reason, verdict, pause) in [
        (0x00, Verdict::Delivered, 0),
        (0x10, Verdict::NobodyListens, 0),
        (0x99, Verdict::Unfit, 0),
        (0x87, Verdict::Denied, 300),
        (0x97, Verdict::Later, 5),
    ] {
        let mut s = up(S(0));
        let id = sent_id(&s.publish(S(0), publication()));
        assert!(!s.ready(S(0)), "one at a time");
        assert_eq!(
            s.packet(S(0), Incoming::Acked { id, reason }),
            [Action::Settled(verdict)]
        );
        assert_eq!(s.ready(S(0)), pause == 0, "{reason:x}");
        assert!(s.ready(S(pause)), "{reason:x}");
    }
}

#[test]
fn a_full_broker_is_asked_ever_less_often() {
    let mut s = up(S(0));
    let mut now = S(0);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let id = sent_id(&s.publish(now, publication()));
        s.packet(now, Incoming::Acked { id, reason: 0x97 });
        let until = s.pause.unwrap();
        pauses.push(until.since(now).as_secs());
        now = until;
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn a_publication_that_the_broker_cannot_take_is_not_sent() {
    let (mut s, _) = Session::begin(presence(), KEEP_ALIVE, S(0));
    let limit = Incoming::Connected {
        reason: 0,
        session_present: true,
        keep_alive: Some(Duration::from_secs(8)),
        max_packet: Some(1000),
    };
    s.packet(S(0), limit);
    let large = Publication {
        payload: vec![0; 990],
        ..publication()
    };
    assert_eq!(s.publish(S(0), large), [Action::Settled(Verdict::Unfit)]);
    assert_eq!(s.ping_at, S(6), "the broker's keep-alive counts");
}

#[test]
fn a_command_is_acknowledged_only_after_the_inbox_has_answered_and_in_order() {
    let mut s = up(S(0));
    let offer = |n: u16| Action::Offer {
        to: Down::Command,
        payload: n.to_be_bytes().into(),
    };
    let ack = |id| Action::Send(Outgoing::Ack { id });
    assert_eq!(s.packet(S(0), command(1)), [offer(1)]);
    assert_eq!(s.packet(S(0), command(2)), []);
    assert_eq!(s.answered(S(1), Answer::Later), []);
    assert_eq!(s.packet(S(1), command(3)), []);
    assert_eq!(s.tick(S(2)), []);
    assert_eq!(s.tick(S(3)), [offer(1)]);
    assert_eq!(s.answered(S(3), Answer::Taken), [ack(1), offer(2)]);
    assert_eq!(s.answered(S(3), Answer::Refused), [ack(2), offer(3)]);
    assert_eq!(s.answered(S(3), Answer::Taken), [ack(3)]);
}

#[test]
fn a_command_that_has_to_wait_holds_up_no_twin_and_acknowledgements_keep_their_order() {
    let mut s = up(S(0));
    let offer = |to, n: u16| Action::Offer {
        to,
        payload: n.to_be_bytes().into(),
    };
    let ack = |id| Action::Send(Outgoing::Ack { id });
    assert_eq!(s.packet(S(0), command(1)), [offer(Down::Command, 1)]);
    assert_eq!(s.packet(S(0), twin(2)), []);
    assert_eq!(s.packet(S(0), command(3)), []);
    assert_eq!(s.answered(S(1), Answer::Later), [offer(Down::Twin, 2)]);
    assert_eq!(s.answered(S(1), Answer::Taken), []);
    assert_eq!(s.packet(S(2), twin(4)), [offer(Down::Twin, 4)]);
    assert_eq!(
        s.answered(S(2), Answer::Later),
        [],
        "each waits its own time"
    );
    assert_eq!(s.tick(S(3)), [offer(Down::Command, 1)]);
    let actions = s.answered(S(3), Answer::Taken);
    assert_eq!(actions, [ack(1), ack(2), offer(Down::Command, 3)]);
    assert_eq!(s.tick(S(4)), [], "one at a time");
    let actions = s.answered(S(4), Answer::Refused);
    assert_eq!(actions, [ack(3), offer(Down::Twin, 4)]);
    assert_eq!(s.answered(S(4), Answer::Taken), [ack(4)]);
}

#[test]
fn a_broker_shortens_the_keep_alive_but_does_not_raise_it() {
    for (asked, ping_at) in [(8, 6), (30, 22), (65_535, 22)] {
        let (mut s, _) = Session::begin(presence(), KEEP_ALIVE, S(0));
        let connected = Incoming::Connected {
            reason: 0,
            session_present: false,
            keep_alive: Some(Duration::from_secs(asked)),
            max_packet: None,
        };
        s.packet(S(0), connected);
        assert_eq!(s.ping_at.since(S(0)).as_secs(), ping_at, "{asked}");
    }
}

#[test]
fn what_is_not_for_the_inbox_is_acknowledged_and_forgotten() {
    let mut s = up(S(0));
    let message = |topic: &str, payload: &[u8]| Incoming::Published {
        topic: topic.as_bytes().into(),
        payload: payload.into(),
        id: Some(7),
    };
    let ack = || Action::Send(Outgoing::Ack { id: 7 });
    for (topic, payload) in [("e-2/down/cmd", &b"x"[..]), ("e-1/down/twin", b"")] {
        let actions = s.packet(S(0), message(&format!("edge/v1/{topic}"), payload));
        assert_eq!(actions, [ack()], "{topic}");
    }
    assert_eq!(
        s.packet(S(0), message("edge/v1/e-1/down/poke", b"{}")),
        [Action::Poke, ack()]
    );
}

#[test]
fn a_broker_that_ignores_the_receive_maximum_is_not_read_for_a_while() {
    let mut s = up(S(0));
    for n in 1..=WAITING as u16 {
        assert!(s.reads());
        assert_eq!(ended(&s.packet(S(0), command(n))), None);
    }
    assert!(!s.reads());
    // Whoever reads all the same does not grow without end.
    assert!(matches!(
        ended(&s.packet(S(0), command(99))),
        Some(Ended::Protocol(_))
    ));
    let mut s = up(S(0));
    for n in 1..=WAITING as u16 {
        s.packet(S(0), command(n));
    }
    s.answered(S(0), Answer::Taken);
    assert!(s.reads());
}

#[test]
fn leaving_says_offline_after_what_is_under_way_and_then_goes() {
    let mut s = up(S(0));
    let id = sent_id(&s.publish(S(0), publication()));
    assert_eq!(s.leave(S(0)), []);
    let actions = s.packet(S(0), Incoming::Acked { id, reason: 0 });
    assert_eq!(actions[0], Action::Settled(Verdict::Delivered));
    let id = sent_id(&actions);
    assert!(!s.ready(S(0)));
    assert_eq!(
        s.packet(S(0), Incoming::Acked { id, reason: 0 }),
        [
            Action::Send(Outgoing::Disconnect),
            Action::End(Ended::Stopped)
        ]
    );
    let (mut s, _) = Session::begin(presence(), KEEP_ALIVE, S(0));
    assert_eq!(s.leave(S(0)), [Action::End(Ended::Stopped)]);
}

#[test]
fn refusals_are_told_with_their_code() {
    let (mut s, _) = Session::begin(presence(), KEEP_ALIVE, S(0));
    assert_eq!(
        s.packet(S(0), connected(0x86)),
        [Action::End(Ended::Refused(0x86))]
    );
    let (mut s, _) = Session::begin(presence(), KEEP_ALIVE, S(0));
    s.packet(S(0), connected(0));
    let denied = Incoming::Subscribed {
        id: 1,
        codes: vec![1, 0x87, 0],
    };
    assert_eq!(
        s.packet(S(0), denied),
        [Action::End(Ended::SubscriptionRefused(0x87))]
    );
    let mut s = up(S(0));
    let taken = s.packet(S(0), Incoming::Disconnected { reason: 0x8e });
    assert_eq!(taken, [Action::End(Ended::Disconnected(0x8e))]);
}

fn any_packet() -> impl Strategy<Value = Incoming> {
    let topic = prop_oneof![
        Just(b"edge/v1/e-1/down/cmd".to_vec()),
        Just(b"edge/v1/e-1/down/twin".to_vec()),
        Just(b"edge/v1/e-1/down/poke".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..8),
    ];
    prop_oneof![
        (any::<u8>(), any::<bool>()).prop_map(|(reason, session_present)| Incoming::Connected {
            reason: reason & 1,
            session_present,
            keep_alive: None,
            max_packet: Some(500),
        }),
        (0u16..4, 0u8..3).prop_map(|(id, code)| Incoming::Subscribed {
            id,
            codes: vec![code]
        }),
        (0u16..6, prop_oneof![Just(0u8), Just(0x10), Just(0x97)])
            .prop_map(|(id, reason)| Incoming::Acked { id, reason }),
        (topic, proptest::option::of(1u16..50)).prop_map(|(topic, id)| Incoming::Published {
            topic,
            payload: b"x".into(),
            id
        }),
        Just(Incoming::Pong),
    ]
}

proptest! {
    /// Whatever comes: never two publications or two offers at once, never an acknowledgement without an answer, and
    /// a session that is not over always has a deadline.
    #[test]
    fn no_order_of_packets_breaks_the_rules(
        steps in proptest::collection::vec((any_packet(), 0u64..12_000, 0u8..4), 0..80),
    ) {
        let mut now = S(1);
        let (mut s, mut actions) = Session::begin(presence(), KEEP_ALIVE, now);
        let (mut in_flight, mut offers, mut unanswered) = (0i32, 0i32, 0i32);
        for (packet, ms, choice) in steps {
            for action in actions.drain(..) {
                match action {
                    Action::Send(Outgoing::Publish { id: Some(_), .. }) => in_flight += 1,
                    Action::Up | Action::Settled(_) => in_flight -= 1,
                    Action::Send(Outgoing::Ack { .. }) => unanswered -= 1,
                    Action::Offer { .. } => offers += 1,
                    Action::End(_) => return Ok(()),
                    _ => {}
                }
            }
            prop_assert!((0..=1).contains(&in_flight), "{in_flight} under way");
            prop_assert!((0..=1).contains(&offers), "{offers} offers");
            prop_assert!(unanswered >= 0);
            now = now + Duration::from_millis(ms);
            if s.deadline() <= now {
                actions = s.tick(now);
            } else if choice == 0 && s.ready(now) {
                actions = s.publish(now, publication());
            } else if choice == 1 && offers == 1 {
                offers = 0;
                actions = s.answered(now, if ms % 2 == 0 { Answer::Taken } else { Answer::Later });
            } else {
                unanswered += i32::from(matches!(packet, Incoming::Published { id: Some(_), .. }));
                actions = s.packet(now, packet);
            }
        }
    }
}
