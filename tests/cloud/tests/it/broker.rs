//! Section 5.4 with a real Mosquitto: each device in its own topics, nobody anonymous, nobody under another's name.

use std::os::unix::fs::PermissionsExt;

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, PubAckReason, SubscribeReasonCode};
use sentrycam_cloud::broker::Broker;
use sentrycam_cloud::cert::DevCert;

use crate::mqtt::Mqtt;

async fn broker(devices: &[&str]) -> (tempfile::TempDir, Broker) {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &DevCert::generate().unwrap()).unwrap();
    for device in devices {
        broker
            .control()
            .add_device(device, &format!("password of {device}"))
            .await
            .unwrap();
    }
    (directory, broker)
}

async fn connect(broker: &Broker, device: &str) -> Result<Mqtt, ConnectReturnCode> {
    let password = format!("password of {device}");
    Mqtt::connect(
        &broker.ca_file(),
        broker.port(),
        device,
        Some((device, &password)),
    )
    .await
}

async fn cloud(broker: &Broker) -> Mqtt {
    let login = (
        broker.cloud().username.as_str(),
        broker.cloud().password.as_str(),
    );
    Mqtt::connect(&broker.ca_file(), broker.port(), "cloud", Some(login))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_device_has_its_own_topics_and_no_others() {
    let (_directory, broker) = broker(&["e-one", "e-two"]).await;
    let mut cloud = cloud(&broker).await;
    assert!(matches!(
        cloud.subscribe("edge/v1/+/up/#").await,
        SubscribeReasonCode::Success(_)
    ));
    let mut one = connect(&broker, "e-one").await.unwrap();
    let mut two = connect(&broker, "e-two").await.unwrap();
    for own in [
        "edge/v1/e-one/down/cmd",
        "edge/v1/e-one/down/twin",
        "edge/v1/e-one/down/#",
    ] {
        assert!(
            matches!(one.subscribe(own).await, SubscribeReasonCode::Success(_)),
            "{own}"
        );
    }
    for foreign in [
        "edge/v1/e-two/down/#",
        "edge/v1/+/down/#",
        "edge/v1/e-one/#",
        "edge/v1/e-one/up/#",
        "#",
        "$SYS/#",
        "$CONTROL/dynamic-security/v1/response",
    ] {
        assert_eq!(
            one.subscribe(foreign).await,
            SubscribeReasonCode::NotAuthorized,
            "{foreign}"
        );
    }
    for own in ["state", "twin", "hint", "cmd/019af5d8/status"] {
        let topic = format!("edge/v1/e-one/up/{own}");
        assert_eq!(
            one.publish(&topic, false, b"{}").await,
            PubAckReason::Success,
            "{own}"
        );
        assert_eq!(cloud.message().await.topic, topic.as_bytes());
    }
    assert!(matches!(
        two.subscribe("edge/v1/e-two/down/#").await,
        SubscribeReasonCode::Success(_)
    ));
    assert_eq!(
        cloud.publish("edge/v1/e-two/down/cmd", false, b"jws").await,
        PubAckReason::Success
    );
    assert_eq!(two.message().await.payload.as_ref(), b"jws");
    for foreign in [
        "edge/v1/e-two/up/state",
        "edge/v1/e-two/down/cmd",
        "edge/v1/e-one/down/cmd",
        "edge/v1/e-one/up/other",
        "x",
        "$CONTROL/dynamic-security/v1",
    ] {
        // Each in a connection of its own: rumqttc gives a connection up over a refused publish.
        let mut one = connect(&broker, "e-one").await.unwrap();
        assert_eq!(
            one.publish(foreign, false, b"{}").await,
            PubAckReason::NotAuthorized,
            "{foreign}"
        );
    }
}

#[tokio::test]
async fn nobody_connects_without_a_name_or_under_anothers() {
    let (_directory, broker) = broker(&["e-one", "e-two"]).await;
    let (ca, port) = (broker.ca_file(), broker.port());
    let right = Some(("e-one", "password of e-one"));
    for (what, id, user) in [
        ("anonymous", "e-one", None),
        (
            "wrong password",
            "e-one",
            Some(("e-one", "password of e-two")),
        ),
        ("foreign client id", "e-two", right),
        ("unknown client id", "other", right),
        ("unknown user", "e-three", Some(("e-three", ""))),
    ] {
        let refused = Mqtt::connect(&ca, port, id, user).await.err();
        let refused = refused.unwrap_or_else(|| panic!("{what} was let in"));
        assert!(
            matches!(
                refused,
                ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadUserNamePassword
            ),
            "{what}: {refused:?}"
        );
    }
    assert!(Mqtt::connect(&ca, port, "e-one", right).await.is_ok());
}

#[tokio::test]
async fn a_disabled_client_is_thrown_out_and_a_removed_one_leaves_nothing() {
    let (_directory, broker) = broker(&["e-one"]).await;
    let control = broker.control();
    let mut cloud = cloud(&broker).await;
    let mut one = connect(&broker, "e-one").await.unwrap();
    assert_eq!(
        cloud
            .publish("edge/v1/e-one/down/twin", true, b"secret")
            .await,
        PubAckReason::NoMatchingSubscribers
    );
    control.enable_device("e-one", false).await.unwrap();
    one.ended().await;
    assert!(connect(&broker, "e-one").await.is_err());
    control.enable_device("e-one", true).await.unwrap();
    let mut one = connect(&broker, "e-one").await.unwrap();
    control.remove_device("e-one").await.unwrap();
    one.ended().await;
    assert!(connect(&broker, "e-one").await.is_err());
    assert!(
        !control
            .clients()
            .await
            .unwrap()
            .contains(&"e-one".to_owned())
    );
    // Doing it again is safe; and a device of that name starts without what was retained.
    control.remove_device("e-one").await.unwrap();
    control
        .add_device("e-one", "password of e-one")
        .await
        .unwrap();
    let mut one = connect(&broker, "e-one").await.unwrap();
    one.subscribe("edge/v1/e-one/down/#").await;
    cloud.publish("edge/v1/e-one/down/poke", false, b"{}").await;
    assert_eq!(
        one.message().await.topic.as_ref(),
        b"edge/v1/e-one/down/poke"
    );
}

#[tokio::test]
async fn clients_outlive_the_broker_and_no_file_shows_a_password() {
    let (directory, broker) = broker(&["e-one"]).await;
    let first = broker.pid().unwrap();
    broker.kill();
    assert!(broker.pid().is_none());
    broker.start_again().unwrap();
    assert_ne!(broker.pid().unwrap(), first);
    let _one = connect(&broker, "e-one").await.unwrap();
    broker.stop();
    broker.start_again().unwrap();
    broker
        .control()
        .add_device("e-two", "password of e-two")
        .await
        .unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap().flatten() {
        let Ok(text) = std::fs::read(entry.path()) else {
            continue;
        };
        assert!(
            !String::from_utf8_lossy(&text).contains("password of"),
            "{:?}",
            entry.path()
        );
    }
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(directory.path()), 0o700);
    assert_eq!(mode(&broker.clients_file()), 0o600);
    assert_eq!(mode(&directory.path().join("logins.json")), 0o600);
}

#[tokio::test]
async fn a_frozen_broker_answers_when_it_goes_on() {
    let (_directory, broker) = broker(&[]).await;
    broker.freeze().unwrap();
    let control = broker.control();
    let waiting = tokio::spawn(async move { control.add_device("e-one", "p").await });
    broker.thaw().unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(broker.control().clients().await.unwrap().len(), 3);
}
