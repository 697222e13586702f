//! What to paste into a VM's settings so that its serial port finds a server (esxi.md).

use super::finding::Report;

/// Adds the lines for each tool. `proxy` is the server's URI.
pub(super) fn tell(report: &mut Report, proxy: &str) {
    report.paste(
        "vsphere",
        "in the vSphere client, the settings of the VM's serial port",
        format!(
            "Use network; Direction: Server; Port URI: {SERVICE}\n\
             Use virtual serial port concentrator; vSPC URI: {proxy}\n\
             Connect At Power On"
        ),
    );
    report.paste(
        "govc",
        "the same with govc (VM is its name)",
        format!(
            "govc device.serial.add -vm VM\n\
             govc device.serial.connect -vm VM -device serialport-9000 -vspc-proxy '{proxy}' {SERVICE}"
        ),
    );
    report.paste(
        "powercli",
        "the same with PowerCLI (the function that adds the port is in docs/esxi.md)",
        format!(
            "$port.Backing.Direction = 'server'\n\
             $port.Backing.ServiceURI = '{SERVICE}'\n\
             $port.Backing.ProxyURI = '{proxy}'"
        ),
    );
}

/// The port's own URI: any but a reserved one will do, and vSPC.py insists on this one.
const SERVICE: &str = "vSPC.py";
