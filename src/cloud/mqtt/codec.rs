//! Bytes to packets and back, by `rumqttc`'s codec. Whatever bytes come, this ends in a packet, a wish for more bytes,
//! or an error; at most one packet of [`MAX_PACKET_BYTES`] is held.

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode,
    Filter, LastWill, LastWillProperties, Login, Packet, PingReq, PubAck, PubAckReason, Publish,
    SubAck, Subscribe, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error, QoS};

use super::WireError;
use crate::cloud::credentials::MqttAccount;
use crate::link::packet::{MAX_PACKET_BYTES, RECEIVE_MAXIMUM, SESSION_EXPIRY, WILL_DELAY};
use crate::link::{Incoming, Outgoing};

/// Takes the next packet from `buffer`; `None`: more bytes are needed.
pub(super) fn decode(buffer: &mut BytesMut) -> Result<Option<Incoming>, WireError> {
    if let Some(disconnect) = short_disconnect(buffer) {
        return Ok(Some(disconnect));
    }
    let held = buffer.len();
    match Packet::read(buffer, Some(MAX_PACKET_BYTES)) {
        Ok(packet) => Ok(Some(incoming(packet))),
        Err(Error::InsufficientBytes(_)) if buffer.len() == held => Ok(None),
        Err(Error::PayloadSizeLimitExceeded { .. }) => {
            Err(WireError::Malformed("a packet larger than we take"))
        }
        // Where the packet was taken from the buffer already, its inside is too short.
        Err(_) => Err(WireError::Malformed("a malformed packet")),
    }
}

/// DISCONNECT without properties, which the library takes for malformed (OASIS MQTT 5.0, 3.14.2.2.1 allows it).
fn short_disconnect(buffer: &mut BytesMut) -> Option<Incoming> {
    let (length, reason) = match buffer[..] {
        [0xe0, 0, ..] => (2, 0),
        [0xe0, 1, reason, ..] => (3, reason),
        _ => return None,
    };
    let _taken = buffer.split_to(length);
    Some(Incoming::Disconnected { reason })
}

fn incoming(packet: Packet) -> Incoming {
    match packet {
        Packet::ConnAck(ack) => connected(&ack),
        Packet::SubAck(SubAck {
            pkid, return_codes, ..
        }) => Incoming::Subscribed {
            id: pkid,
            codes: return_codes.into_iter().map(subscribe_code).collect(),
        },
        Packet::PubAck(PubAck { pkid, reason, .. }) => Incoming::Acked {
            id: pkid,
            reason: publish_code(reason),
        },
        Packet::Publish(p) if p.qos == QoS::ExactlyOnce => Incoming::Unexpected("QoS 2"),
        Packet::Publish(p)
            if p.properties
                .as_ref()
                .is_some_and(|p| p.topic_alias.is_some()) =>
        {
            Incoming::Unexpected("a topic alias")
        }
        Packet::Publish(p) => Incoming::Published {
            topic: p.topic.to_vec(),
            payload: p.payload.to_vec(),
            id: (p.qos == QoS::AtLeastOnce).then_some(p.pkid),
        },
        Packet::PingResp(_) => Incoming::Pong,
        Packet::Disconnect(d) => Incoming::Disconnected {
            reason: d.reason_code as u8,
        },
        _ => Incoming::Unexpected("a packet that only clients send"),
    }
}

fn connected(ack: &ConnAck) -> Incoming {
    let properties = ack.properties.as_ref();
    let seconds = properties.and_then(|p| p.server_keep_alive);
    Incoming::Connected {
        reason: connect_code(ack.code),
        session_present: ack.session_present,
        // Zero would be no keep-alive at all: then ours stays.
        keep_alive: seconds
            .filter(|s| *s > 0)
            .map(|s| std::time::Duration::from_secs(s.into())),
        max_packet: properties.and_then(|p| p.max_packet_size),
    }
}

/// Appends a packet to `buffer`.
pub(super) fn encode(
    packet: Outgoing,
    account: &MqttAccount,
    buffer: &mut BytesMut,
) -> Result<(), WireError> {
    packet_of(packet, account)
        .write(buffer, None)
        .map(drop)
        .map_err(|e| WireError::Lost(format!("a packet cannot be encoded: {e}")))
}

fn packet_of(packet: Outgoing, account: &MqttAccount) -> Packet {
    match packet {
        Outgoing::Connect {
            keep_alive,
            will_topic,
            will,
        } => {
            let mut properties = ConnectProperties::new();
            properties.session_expiry_interval = u32::try_from(SESSION_EXPIRY.as_secs()).ok();
            properties.receive_maximum = Some(RECEIVE_MAXIMUM);
            properties.max_packet_size = Some(MAX_PACKET_BYTES);
            let delay = LastWillProperties {
                delay_interval: u32::try_from(WILL_DELAY.as_secs()).ok(),
                payload_format_indicator: None,
                message_expiry_interval: None,
                content_type: None,
                response_topic: None,
                correlation_data: None,
                user_properties: Vec::new(),
            };
            let will = LastWill::new(will_topic, will, QoS::AtLeastOnce, true, Some(delay));
            let connect = Connect {
                keep_alive: u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX),
                client_id: account.client_id.clone(),
                clean_start: false,
                properties: Some(properties),
            };
            let login = Login::new(account.username.as_str(), account.password.expose());
            Packet::Connect(connect, Some(will), Some(login))
        }
        Outgoing::Subscribe { id, filters } => {
            let filter = |(path, qos)| {
                let qos = if qos == 0 {
                    QoS::AtMostOnce
                } else {
                    QoS::AtLeastOnce
                };
                Filter::new::<String>(path, qos)
            };
            Packet::Subscribe(Subscribe {
                pkid: id,
                filters: filters.into_iter().map(filter).collect(),
                properties: None,
            })
        }
        Outgoing::Publish {
            id,
            topic,
            payload,
            retain,
        } => {
            let qos = match id {
                Some(_) => QoS::AtLeastOnce,
                None => QoS::AtMostOnce,
            };
            let mut publish = Publish::new(topic, qos, payload, None);
            publish.pkid = id.unwrap_or(0);
            publish.retain = retain;
            Packet::Publish(publish)
        }
        Outgoing::Ack { id } => Packet::PubAck(PubAck::new(id, None)),
        Outgoing::Ping => Packet::PingReq(PingReq),
        Outgoing::Disconnect => {
            Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection))
        }
    }
}

fn connect_code(code: ConnectReturnCode) -> u8 {
    use ConnectReturnCode as C;
    match code {
        C::Success => 0x00,
        // Codes of MQTT 3.1.1, said by a broker that knows no other: what they are in version 5.
        C::RefusedProtocolVersion | C::UnsupportedProtocolVersion => 0x84,
        C::BadClientId | C::ClientIdentifierNotValid => 0x85,
        C::ServiceUnavailable | C::ServerUnavailable => 0x88,
        C::UnspecifiedError => 0x80,
        C::MalformedPacket => 0x81,
        C::ProtocolError => 0x82,
        C::ImplementationSpecificError => 0x83,
        C::BadUserNamePassword => 0x86,
        C::NotAuthorized => 0x87,
        C::ServerBusy => 0x89,
        C::Banned => 0x8a,
        C::BadAuthenticationMethod => 0x8c,
        C::TopicNameInvalid => 0x90,
        C::PacketTooLarge => 0x95,
        C::QuotaExceeded => 0x97,
        C::PayloadFormatInvalid => 0x99,
        C::RetainNotSupported => 0x9a,
        C::QoSNotSupported => 0x9b,
        C::UseAnotherServer => 0x9c,
        C::ServerMoved => 0x9d,
        C::ConnectionRateExceeded => 0x9f,
    }
}

fn publish_code(reason: PubAckReason) -> u8 {
    use PubAckReason as P;
    match reason {
        P::Success => 0x00,
        P::NoMatchingSubscribers => 0x10,
        P::UnspecifiedError => 0x80,
        P::ImplementationSpecificError => 0x83,
        P::NotAuthorized => 0x87,
        P::TopicNameInvalid => 0x90,
        P::PacketIdentifierInUse => 0x91,
        P::QuotaExceeded => 0x97,
        P::PayloadFormatInvalid => 0x99,
    }
}

fn subscribe_code(code: SubscribeReasonCode) -> u8 {
    use SubscribeReasonCode as S;
    match code {
        S::Success(qos) => qos as u8,
        S::Failure | S::Unspecified => 0x80,
        S::ImplementationSpecific => 0x83,
        S::NotAuthorized => 0x87,
        S::TopicFilterInvalid => 0x8f,
        S::PkidInUse => 0x91,
        S::QuotaExceeded => 0x97,
        S::SharedSubscriptionsNotSupported => 0x9e,
        S::SubscriptionIdNotSupported => 0xa1,
        S::WildcardSubscriptionsNotSupported => 0xa2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;
    use proptest::prelude::*;

    fn account() -> MqttAccount {
        MqttAccount {
            host: "broker".into(),
            port: 8883,
            client_id: "e-1".into(),
            username: "e-1".into(),
            password: Secret::new("pw"),
        }
    }

    fn published(n: usize) -> BytesMut {
        let mut buffer = BytesMut::new();
        let publish = Outgoing::Publish {
            id: Some(7),
            topic: "t".into(),
            payload: vec![b'x'; n],
            retain: false,
        };
        encode(publish, &account(), &mut buffer).unwrap();
        buffer
    }

    #[test]
    fn a_packet_is_read_whole_or_not_at_all() {
        let whole = published(300);
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert!(matches!(decode(&mut part), Ok(None)));
            assert_eq!(part.len(), cut);
        }
        let mut two = BytesMut::from(&[&whole[..], &whole[..2]].concat()[..]);
        let Ok(Some(Incoming::Published { payload, id, .. })) = decode(&mut two) else {
            panic!()
        };
        assert_eq!((payload.len(), id, two.len()), (300, Some(7), 2));
    }

    #[test]
    fn a_packet_that_is_too_large_or_too_short_inside_is_an_error() {
        let large = published(MAX_PACKET_BYTES as usize);
        assert!(decode(&mut BytesMut::from(&large[..5])).is_err());
        // A PUBACK whose length says one byte.
        assert!(decode(&mut BytesMut::from(&[0x40, 1, 0][..])).is_err());
        assert!(matches!(
            decode(&mut BytesMut::from(&[0x30, 5, 0, 1, b't', 3, 0x23][..])),
            Err(WireError::Malformed(_))
        ));
    }

    #[test]
    fn a_disconnect_is_read_in_each_of_its_lengths() {
        let long = [0xe0, 2, 0x8e, 0];
        for (bytes, reason) in [
            (&long[..2], None),
            (&[0xe0, 0], Some(0)),
            (&[0xe0, 1], None),
        ] {
            let mut buffer = BytesMut::from(bytes);
            let read = decode(&mut buffer).unwrap();
            assert_eq!(read, reason.map(|reason| Incoming::Disconnected { reason }));
        }
        for bytes in [&long[..], &[0xe0, 1, 0x8e]] {
            let mut buffer = BytesMut::from(bytes);
            let read = decode(&mut buffer).unwrap();
            assert_eq!(read, Some(Incoming::Disconnected { reason: 0x8e }));
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn connect_says_what_the_protocol_wants_of_it() {
        let mut buffer = BytesMut::new();
        let hello = Outgoing::Connect {
            keep_alive: std::time::Duration::from_secs(30),
            will_topic: "w".into(),
            will: b"off".into(),
        };
        encode(hello, &account(), &mut buffer).unwrap();
        let Packet::Connect(c, Some(will), Some(login)) = Packet::read(&mut buffer, None).unwrap()
        else {
            panic!()
        };
        let p = c.properties.unwrap();
        assert_eq!((c.keep_alive, c.clean_start), (30, false));
        assert_eq!(
            (
                p.session_expiry_interval,
                p.max_packet_size,
                p.receive_maximum
            ),
            (Some(604_800), Some(65_536), Some(8))
        );
        assert_eq!((will.retain, &will.message[..]), (true, &b"off"[..]));
        assert_eq!(will.properties.unwrap().delay_interval, Some(15));
        assert_eq!(
            (login.username.as_str(), login.password.as_str()),
            ("e-1", "pw")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]
        /// Every kind of packet with any inside, of the length it says.
        #[test]
        fn no_bytes_make_it_panic(
            kind in any::<u8>(), inside in proptest::collection::vec(any::<u8>(), 0..100), cut in 0usize..100,
        ) {
            let mut bytes = vec![kind, inside.len() as u8];
            bytes.extend(&inside);
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode(&mut buffer) {}
            let mut buffer = BytesMut::from(&bytes[..cut.min(bytes.len())]);
            while let Ok(Some(_)) = decode(&mut buffer) {}
            // The same, but of the shapes that a broker's packets begin with.
            let mut shaped = vec![0x32, inside.len() as u8 + 5, 0, 1, b't', 0, 1];
            shaped.extend(&inside);
            let mut buffer = BytesMut::from(&shaped[..]);
            while let Ok(Some(_)) = decode(&mut buffer) {}
        }
    }
}
