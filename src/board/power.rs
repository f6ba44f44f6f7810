//! Power and heat as the kernel shows them; what a board does not have is absent.

use std::fs;
use std::path::Path;

/// Bits of the Raspberry Pi's firmware.
const UNDER_VOLTAGE_NOW: u32 = 1;
const UNDER_VOLTAGE_EVER: u32 = 1 << 16;

/// Power and heat.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Power {
    /// The supply is too weak at this moment.
    pub under_voltage: Option<bool>,
    /// It was, since the start of the machine.
    pub under_voltage_ever: Option<bool>,
    /// The hottest of all sensors.
    pub celsius: Option<f64>,
}

/// Reads below `sys`, which is `/sys` but in tests.
pub fn power(sys: &Path) -> Power {
    let mut power = Power::default();
    let throttled = sys.join("devices/platform/soc/soc:firmware/get_throttled");
    let bits =
        text(&throttled).and_then(|t| u32::from_str_radix(t.trim_start_matches("0x"), 16).ok());
    if let Some(bits) = bits {
        power.under_voltage = Some(bits & UNDER_VOLTAGE_NOW != 0);
        power.under_voltage_ever = Some(bits & UNDER_VOLTAGE_EVER != 0);
    }
    for sensor in entries(&sys.join("class/hwmon")) {
        if text(&sensor.join("name")).as_deref() == Some("rpi_volt")
            && let Some(alarm) = text(&sensor.join("in0_lcrit_alarm"))
        {
            power.under_voltage = Some(alarm != "0");
        }
    }
    for zone in entries(&sys.join("class/thermal")) {
        let millis = text(&zone.join("temp")).and_then(|t| t.parse::<f64>().ok());
        // What is out of this range is a broken sensor.
        if let Some(celsius) = millis.map(|m| m / 1000.0)
            && (-40.0..150.0).contains(&celsius)
        {
            power.celsius = Some(power.celsius.map_or(celsius, |c| c.max(celsius)));
        }
    }
    power
}

fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    let read = fs::read_dir(dir).map(|d| d.flatten().take(64).map(|e| e.path()).collect());
    read.unwrap_or_default()
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|t| t.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_shows_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(power(dir.path()), Power::default());
        let put = |name: &str, content: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        put("class/thermal/thermal_zone0/temp", "51200\n");
        put("class/thermal/thermal_zone1/temp", "83000\n");
        put("class/thermal/thermal_zone2/temp", "-273200\n");
        put("class/thermal/cooling_device0/type", "x");
        put("devices/platform/soc/soc:firmware/get_throttled", "50000\n");
        let all = power(dir.path());
        assert_eq!(all.celsius, Some(83.0));
        assert_eq!(
            (all.under_voltage, all.under_voltage_ever),
            (Some(false), Some(true))
        );
        put("class/hwmon/hwmon1/name", "rpi_volt\n");
        put("class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
        assert_eq!(power(dir.path()).under_voltage, Some(true));
    }
}
