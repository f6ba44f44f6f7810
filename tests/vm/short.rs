//! The machine's story in short: one boot under the unit's sandbox, claim by the button, motion, clip, one power cut in the
//! middle of the next event, another boot, and the comparison.

use super::story::Story;
use crate::dice::Dice;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make vm-short"]
async fn the_package_is_claimed_records_and_survives_a_power_cut() {
    let mut s = Story::with_a_power_switch().await;
    s.say("booted");
    s.wait_ready();
    s.wait_up();
    s.machine
        .run("systemd-analyze security --threshold=15 sentrycam >/dev/null");
    s.assert_maps();
    assert_eq!(s.light(), "timer", "nobody owns it");
    s.claim().await;
    s.event("door").await;
    s.event("yard").await;
    s.wait_cloud("(select count(*) > 0 from recordings where status = 'available')")
        .await;
    s.say("motion of both cameras is in the cloud, a clip in the storage");

    s.wait_recording();
    s.cut_the_power(&mut Dice(7));
    s.wait_ready();
    s.wait_up();
    s.event("door").await;
    s.say("the power was cut in an event; it records again");
    s.finish().await;
}
