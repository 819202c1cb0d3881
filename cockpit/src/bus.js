// The D-Bus side: org.consoleserver1 for ports and settings, systemd for the moment at which a port's state changes.
const cockpit = window.cockpit;
export const TOP = "/org/consoleserver1";
export const MANAGER = "org.consoleserver1.Manager";
export const PORT = "org.consoleserver1.Port";
const PROPERTIES = "org.freedesktop.DBus.Properties";
const OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager";
const UNITS = "/org/freedesktop/systemd1/unit";

// As the user who is logged in, never as root: polkit decides by the user, as for consolectl.
const bus = cockpit.dbus("org.consoleserver1", { bus: "system" });

export function manager(member, args = [], type = "") {
    return bus.call(TOP, MANAGER, member, args, { type });
}

export function portCall(path, member, args = [], type = "") {
    return bus.call(path, PORT, member, args, { type });
}

/** All properties of an object, without the variants around them. */
export async function properties(path, name) {
    const [values] = await bus.call(path, PROPERTIES, "GetAll", [name], { type: "s" });
    return unwrapped(values);
}

export async function property(path, name, which) {
    const [value] = await bus.call(path, PROPERTIES, "Get", [name, which], { type: "ss" });
    return unwrap(value);
}

/** An a{sv} without the variants. */
function unwrapped(values) {
    return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, unwrap(value)]));
}

/** A variant's value; of one that is an a{sv}, as Candidate is, without its variants. */
function unwrap({ t, v }) {
    return t === "a{sv}" ? unwrapped(v) : v;
}

/** All ports: path, name, unit, and the keys that a list shows. (GetManagedObjects has all keys three times: 5 kB a port.) */
export async function listPorts() {
    const [ports] = await manager("ListPorts");
    return ports.map(([path, name, unit, keys]) => ({ path, name, unit, keys: unwrapped(keys) }));
}

/** All keys of a port, in three configurations, and the tables that they come from. */
export async function portKeys({ path }) {
    const { Candidate: candidate, Running: running, Committed: committed, Origins: origins } = await properties(path, PORT);
    return { candidate, running, committed, origins };
}

/** The unit of an object path of systemd: a character that a path cannot have is `_` and two hexadecimal digits. */
function unitOf(path) {
    return path.slice(UNITS.length + 1).replace(/_([0-9a-f]{2})/g, (_, digits) => String.fromCharCode(parseInt(digits, 16)));
}

/** Calls back with (member, arguments) for each signal of the manager. */
export function onManager(callback) {
    bus.subscribe({ path: TOP, interface: MANAGER }, (_path, _interface, member, args) => callback(member, args));
}

/** Calls back when ports are created or removed. */
export function onPorts(callback) {
    bus.subscribe({ path: TOP, interface: OBJECT_MANAGER }, () => callback());
}

/**
 * Calls back with the name of a port's unit whose state or STATUS= has changed, and its STATUS=, until the function that is returned is
 * called. `failed` is called if systemd does not report changes.
 */
export function watchUnits(callback, failed) {
    // A separate connection: when it is closed, systemd stops sending signals.
    const systemd = cockpit.dbus("org.freedesktop.systemd1", { bus: "system" });
    let watching = true;
    // systemd sends a signal for Unit with each one for Service, which alone has STATUS=.
    const wanted = { path_namespace: UNITS, interface: PROPERTIES, member: "PropertiesChanged", arg0: "org.freedesktop.systemd1.Service" };
    systemd.subscribe(wanted, (path, _interface, _member, [, changed]) => {
        const unit = unitOf(path);
        if (/^console@.*\.service$/.test(unit)) callback(unit, changed.StatusText?.v);
    });
    // systemd sends these signals only while some client has subscribed.
    systemd.call("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "Subscribe", [], { type: "" }).catch((error) => {
        if (!watching || ALREADY_SUBSCRIBED.includes(error.name)) return;
        console.warn("systemd does not report changes of units, which are polled:", error.message);
        failed();
    });
    return () => {
        watching = false;
        systemd.close();
    };
}

/** Of systemd and of sd-bus: another page of this login has subscribed already, and the bridge has one connection for all. */
const ALREADY_SUBSCRIBED = ["org.freedesktop.systemd1.AlreadySubscribed", "org.freedesktop.DBus.Error.FileExists"];

/** Calls back if the service leaves the bus for good (the channel closes). */
export function onClose(callback) {
    bus.addEventListener("close", (_event, options) => callback(options));
}

/** Runs consolectl as the user and returns what it prints. */
export function consolectl(words, options = {}) {
    return cockpit.spawn(["consolectl", ...words], { err: "message", ...options });
}

/**
 * What a consolectl command prints, also if its exit status is 1: that of doctor if it has found something, and of a command for several
 * ports if it has failed at some. If it prints nothing then, it has failed.
 */
export function printed(words, options = {}) {
    // (A promise of cockpit.js passes the output as the second argument, which `await` would drop.)
    return new Promise((resolve, reject) => {
        consolectl(words, options).then(resolve, (error, output) => (error.exit_status === 1 && output ? resolve(output) : reject(error)));
    });
}

/** The JSON that a consolectl command prints. */
export async function json(words, options = {}) {
    return JSON.parse(await printed([...words, "--json"], options));
}

/** A value for the bus, by the type of the key. */
export function variant(value) {
    if (typeof value === "boolean") return { t: "b", v: value };
    if (typeof value === "number") return { t: "u", v: value };
    if (Array.isArray(value)) return { t: "as", v: value };
    return { t: "s", v: value };
}
