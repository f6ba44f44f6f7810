//! The light, through the kernel's LED triggers: the kernel blinks, nobody is woken for it.

use std::io;
use std::path::{Path, PathBuf};

use crate::claim::led::{Pattern, Step};

/// A light below `/sys/class/leds`.
#[derive(Debug)]
pub struct Led {
    dir: PathBuf,
    brightest: u32,
    triggers: String,
}

impl Led {
    /// Finds it.
    ///
    /// # Errors
    /// Not there, or not allowed.
    pub fn open(dir: &Path) -> io::Result<Led> {
        let number = |name| Ok::<_, io::Error>(read(&dir.join(name))?.trim().parse::<u32>().ok());
        Ok(Led {
            brightest: number("max_brightness")?.unwrap_or(255).max(1),
            triggers: read(&dir.join("trigger"))?,
            dir: dir.to_owned(),
        })
    }

    /// Whether it may be set; it is not.
    ///
    /// # Errors
    /// Not allowed.
    pub fn may_be_set(&self) -> io::Result<()> {
        for name in ["trigger", "brightness"] {
            let path = self.dir.join(name);
            std::fs::OpenOptions::new().write(true).open(path)?;
        }
        Ok(())
    }

    /// Shows a pattern from now on. What the kernel has no trigger for is shown as the nearest that it has.
    ///
    /// # Errors
    /// The light is gone, or not allowed.
    pub fn show(&self, pattern: &Pattern) -> io::Result<()> {
        match pattern {
            Pattern::Steady(on) => self.steady(*on),
            Pattern::Blink { half_ms } => self.blink(*half_ms, *half_ms),
            Pattern::Heartbeat if self.has("heartbeat") => self.write("trigger", "heartbeat"),
            Pattern::Heartbeat => self.blink(100, 1900),
            Pattern::Steps(steps) if self.has("pattern") => {
                self.trigger("pattern")?;
                self.write("pattern", &self.tuples(steps))
            }
            Pattern::Steps(steps) => {
                let first = |on| steps.iter().find(|s| s.on == on).map_or(100, |s| s.ms);
                self.blink(first(true), first(false))
            }
        }
    }

    fn steady(&self, on: bool) -> io::Result<()> {
        self.write("trigger", "none")?;
        let level = if on { self.brightest } else { 0 };
        self.write("brightness", &level.to_string())
    }

    fn blink(&self, on_ms: u32, off_ms: u32) -> io::Result<()> {
        if !self.has("timer") {
            return self.steady(true);
        }
        self.trigger("timer")?;
        self.write("delay_on", &on_ms.to_string())?;
        self.write("delay_off", &off_ms.to_string())
    }

    /// The trigger fades from one brightness to the next; a second tuple of no length makes it a step.
    fn tuples(&self, steps: &[Step]) -> String {
        let tuple = |step: &Step| {
            let level = if step.on { self.brightest } else { 0 };
            format!("{level} {} {level} 0", step.ms)
        };
        steps.iter().map(tuple).collect::<Vec<_>>().join(" ")
    }

    /// Chooses a trigger that has files of its own. The one that is active is left alone: choosing it anew would make its
    /// files anew, and take away what others have allowed on them.
    fn trigger(&self, name: &str) -> io::Result<()> {
        let active = format!("[{name}]");
        let now = read(&self.dir.join("trigger"))?;
        if now.split_whitespace().any(|t| t == active) {
            return Ok(());
        }
        self.write("trigger", name)
    }

    fn has(&self, trigger: &str) -> bool {
        self.triggers
            .split_whitespace()
            .any(|t| t.trim_matches(['[', ']']) == trigger)
    }

    fn write(&self, name: &str, value: &str) -> io::Result<()> {
        use std::io::Write as _;
        let path = self.dir.join(name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)?;
        file.write_all(value.as_bytes())
    }
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(16 << 10)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::led::{Flash, Shown};

    /// A directory like the kernel's, with these triggers.
    fn sysfs(triggers: &str) -> (tempfile::TempDir, Led) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["brightness", "delay_on", "delay_off", "pattern"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::write(dir.path().join("max_brightness"), "1\n").unwrap();
        std::fs::write(dir.path().join("trigger"), triggers).unwrap();
        let led = Led::open(dir.path()).unwrap();
        (dir, led)
    }

    fn shown(dir: &tempfile::TempDir, names: &[&str]) -> Vec<String> {
        let text = |name: &&str| read(&dir.path().join(name)).unwrap();
        names.iter().map(text).collect()
    }

    #[test]
    fn the_kernel_is_told_to_blink() {
        let (dir, led) = sysfs("[none] timer heartbeat pattern");
        led.show(&Shown::Window.pattern()).unwrap();
        let files = ["trigger", "delay_on", "delay_off"];
        assert_eq!(shown(&dir, &files), ["timer", "125", "125"]);
        led.show(&Shown::PressNow.pattern()).unwrap();
        let steps = "1 80 1 0 0 80 0 0 1 80 1 0 0 260 0 0";
        assert_eq!(shown(&dir, &["trigger", "pattern"]), ["pattern", steps]);
        led.show(&Flash::Claimed.pattern().0).unwrap();
        assert_eq!(shown(&dir, &["trigger", "brightness"]), ["none", "1"]);
        led.show(&Shown::Fine.pattern()).unwrap();
        assert_eq!(shown(&dir, &["trigger"]), ["heartbeat"]);
    }

    #[test]
    fn a_kernel_with_few_triggers_shows_the_nearest() {
        let (dir, led) = sysfs("[none] timer");
        led.show(&Shown::CloudLost.pattern()).unwrap();
        let files = ["trigger", "delay_on", "delay_off"];
        assert_eq!(shown(&dir, &files), ["timer", "900", "300"]);
        led.show(&Shown::Fine.pattern()).unwrap();
        assert_eq!(shown(&dir, &files), ["timer", "100", "1900"]);
        let (dir, led) = sysfs("[none]");
        led.show(&Shown::Window.pattern()).unwrap();
        assert_eq!(shown(&dir, &["trigger", "brightness"]), ["none", "1"]);
    }

    #[test]
    fn the_files_of_the_active_trigger_are_kept() {
        let (dir, led) = sysfs("none [timer]");
        led.show(&Shown::Window.pattern()).unwrap();
        let files = ["trigger", "delay_on"];
        assert_eq!(shown(&dir, &files), ["none [timer]", "125"]);
    }

    #[test]
    fn a_light_that_is_not_there_says_so() {
        assert!(Led::open(Path::new("/nowhere/led")).is_err());
    }
}
