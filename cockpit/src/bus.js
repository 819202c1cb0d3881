// The D-Bus side: org.consoleserver1 for ports and settings, systemd for the moment at which a port's state changes.
import { h } from "./dom.js";

const cockpit = window.cockpit;
export const TOP = "/org/consoleserver1";
export const MANAGER = "org.consoleserver1.Manager";
export const PORT = "org.consoleserver1.Port";
const PROPERTIES = "org.freedesktop.DBus.Properties";
const OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager";

// As the user who is logged in, never as root: polkit decides by the user, as for consolectl.
const bus = cockpit.dbus("org.consoleserver1", { bus: "system" });
const systemd = cockpit.dbus("org.freedesktop.systemd1", { bus: "system" });

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
    return value.v;
}

export function unwrapped(values) {
    return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, unwrap(value)]));
}

function unwrap(variant) {
    const value = variant.v;
    // a{sv}, as Candidate is.
    if (value && typeof value === "object" && !Array.isArray(value)) {
        return Object.fromEntries(
            Object.entries(value).map(([key, inner]) => [key, inner && typeof inner === "object" && "v" in inner ? inner.v : inner]),
        );
    }
    return value;
}

/** Path → properties of every port. */
export async function objects() {
    const [found] = await bus.call(TOP, OBJECT_MANAGER, "GetManagedObjects", [], { type: "" });
    const ports = new Map();
    for (const [path, interfaces] of Object.entries(found)) {
        if (interfaces[PORT]) ports.set(path, unwrapped(interfaces[PORT]));
    }
    return ports;
}

/** The port of an object path; what a path cannot have is `_` and two hexadecimal digits. */
export function portName(path) {
    const escaped = path.slice(`${TOP}/port/`.length);
    const raw = escaped.replace(/_([0-9a-f]{2})/g, (_, digits) => String.fromCharCode(parseInt(digits, 16)));
    return raw;
}

export function portPath(name) {
    const escaped = [...new TextEncoder().encode(name)].map((byte, index) => {
        const character = String.fromCharCode(byte);
        const stays = /[A-Za-z]/.test(character) || (index > 0 && /[0-9]/.test(character));
        return stays ? character : `_${byte.toString(16).padStart(2, "0")}`;
    });
    return `${TOP}/port/${escaped.join("")}`;
}

/** Calls back with (member, arguments) for each signal of the manager. */
export function onManager(callback) {
    return bus.subscribe({ path: TOP, interface: MANAGER }, (_path, _interface, member, args) => callback(member, args));
}

/** Calls back when ports are created or removed. */
export function onPorts(callback) {
    return bus.subscribe({ path: TOP, interface: OBJECT_MANAGER }, () => callback());
}

/** Calls back with the name of a unit of ours whose state or STATUS= has changed, and the new STATUS=, if it has. */
export function onUnits(callback, failed) {
    const subscription = systemd.subscribe(
        { path_namespace: "/org/freedesktop/systemd1/unit", interface: PROPERTIES, member: "PropertiesChanged" },
        (path, _interface, _member, [name, changed]) => {
            const unit = unitOf(path);
            if (/^console@.*\.service$/.test(unit) && /\.(Unit|Service)$/.test(name)) callback(unit, changed.StatusText?.v);
        },
    );
    // systemd sends these signals only while some client has subscribed.
    systemd.call("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "Subscribe", [], { type: "" }).catch((error) => {
        console.warn("systemd does not report changes of units, which are polled:", error.message);
        failed();
    });
    return subscription;
}

function unitOf(path) {
    const escaped = path.slice("/org/freedesktop/systemd1/unit/".length);
    return escaped.replace(/_([0-9a-f]{2})/g, (_, digits) => String.fromCharCode(parseInt(digits, 16)));
}

/** Calls back if the service leaves the bus for good (the channel closes). */
export function onClose(callback) {
    bus.addEventListener("close", (_event, options) => callback(options));
}

/** Runs consolectl as the user and returns what it prints. */
export function consolectl(words, options = {}) {
    return cockpit.spawn(["consolectl", ...words], { err: "message", ...options });
}

/** JSON of a consolectl command; with `fails`, also when the exit status is 1, as that of doctor is if it found something. */
export function json(words, fails = false) {
    return new Promise((resolve, reject) => {
        const parse = (text) => {
            try {
                resolve(JSON.parse(text));
            } catch (error) {
                reject(error);
            }
        };
        // (A promise of cockpit.js passes the output as the second argument, which `await` would drop.)
        consolectl(words).then(parse, (error, output) => {
            if (fails && error.exit_status === 1 && output) parse(output);
            else reject(error);
        });
    });
}

/** A value for the bus, by the type of the key. */
export function variant(value) {
    if (typeof value === "boolean") return { t: "b", v: value };
    if (typeof value === "number") return { t: "u", v: value };
    if (Array.isArray(value)) return { t: "as", v: value };
    return { t: "s", v: value };
}

/** A line for a failed call, with a button that tries again. */
export function failure(text, retry) {
    return h("div", { class: "alert danger", role: "alert" }, h("span", {}, text), retry && h("button", { onclick: retry }, "Try again"));
}
