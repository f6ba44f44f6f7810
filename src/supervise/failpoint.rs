//! Places at which a test lets the process die, to prove what is found afterwards. Nothing of it is in a release.

/// The variable that names the place.
pub const VARIABLE: &str = "SENTRYCAM_DIE_AT";

/// Kills the process where `SENTRYCAM_DIE_AT` names this place: no destructor runs, nothing is flushed.
pub fn passing(place: &str) {
    #[cfg(debug_assertions)]
    if std::env::var_os(VARIABLE).is_some_and(|named| named == place) {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = place;
}
