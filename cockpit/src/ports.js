// What is known of the ports, kept up to date: systemd's signals say when a port's state changes, signals of org.consoleserver1
// when the configuration does; counters are polled while the page is visible.
import { PORT, TOP, MANAGER, json, manager, objects, onManager, onPorts, onUnits, portCall, portName, portPath, properties, property } from "./bus.js";

/**
 * How often counters are read while the page is visible, if a port's STATUS= has changed since, which has the bytes of both directions:
 * by one consolectl, which asks all ports that run. While no device talks, nothing is read.
 */
const POLL_MS = 5000;
/** Every so many times everything is read in any case, and also why ports do not run. */
const LIST_EVERY = 12;
/** Signals within this time are answered by one reading: a unit that starts sends about ten of them. */
const COALESCE_MS = 60;
/** A full listing is repeated this often at most: each of 48 ports that are created in a row sends signals. */
const RELIST_MS = 500;

export class Ports extends EventTarget {
    constructor() {
        super();
        /** name → port */
        this.all = new Map();
        this.manager = null;
        this.mayAdminister = false;
        this.error = null;
        this.loaded = false;
        this.findings = [];
        this.doctorError = null;
        this.triggered = [];
        this.changedUnits = new Set();
        this.statusWords = new Map();
        this.unitTimer = null;
        this.listTimer = null;
        this.pollTimer = null;
    }

    start() {
        this.list();
        onUnits(
            (unit, status) => this.unitChanged(unit, status),
            () => (this.withoutSignals = true),
        );
        onPorts(() => this.listSoon());
        onManager((member, args) => this.signalled(member, args));
        document.addEventListener("visibilitychange", () => {
            if (!document.hidden) this.list();
        });
        this.pollTimer = setInterval(() => document.hidden || this.pollIfNeeded(), POLL_MS);
    }

    get(name) {
        return this.all.get(name);
    }

    announce(type = "change") {
        this.dispatchEvent(new Event(type));
    }

    listSoon() {
        if (this.listTimer) return;
        this.listTimer = setTimeout(() => {
            this.listTimer = null;
            this.list();
        }, RELIST_MS);
    }

    /** Everything: at the beginning, and after a change of the configuration. What is asked for while a listing is under way begins after it. */
    list() {
        if (!this.listing) {
            this.listing = this.listNow().finally(() => (this.listing = null));
            return this.listing;
        }
        if (!this.nextListing) {
            this.nextListing = this.listing.then(() => {
                this.nextListing = null;
                return this.list();
            });
        }
        return this.nextListing;
    }

    async listNow() {
        try {
            const manager = Promise.all([properties(TOP, MANAGER), this.askRights()]);
            // (A failure of the one that is not awaited yet is reported below.)
            manager.catch(() => {});
            const found = await objects();
            const before = this.all;
            this.all = new Map();
            for (const [path, values] of found) {
                const name = portName(path);
                const port = before.get(name) || { name, path, sessions: [], lastLine: "" };
                this.all.set(name, Object.assign(port, taken(values)));
            }
            this.error = null;
            // The ports are shown before it is known what the user may do.
            this.announce();
            [this.manager, this.mayAdminister] = await manager;
            this.loaded = true;
        } catch (error) {
            this.error = error;
        }
        this.announce();
        if (!this.error) await this.poll(true);
    }

    async askRights() {
        const [may] = await manager("MayAdminister");
        return may;
    }

    /** The manager's own properties. */
    async readManager() {
        this.manager = await properties(TOP, MANAGER);
        this.announce();
    }

    unitChanged(unit, status) {
        this.stirred = true;
        if (status !== undefined) {
            // A port that talks has a new STATUS= every second, of which only the counters differ: the poll reads these.
            const words = status.replace(/\d+ (bytes )?(in|out)\b/g, "");
            if (this.statusWords.get(unit) === words) return;
            this.statusWords.set(unit, words);
        }
        this.changedUnits.add(unit);
        if (this.unitTimer) return;
        this.unitTimer = setTimeout(async () => {
            this.unitTimer = null;
            const units = this.changedUnits;
            this.changedUnits = new Set();
            await Promise.all([...this.all.values()].filter((port) => units.has(port.unit)).map((port) => this.readPort(port)));
            this.announce();
        }, COALESCE_MS);
    }

    async readPort(port) {
        try {
            const [state, [sessions]] = await Promise.all([property(port.path, PORT, "State"), portCall(port.path, "Sessions")]);
            port.state = state;
            if (state === "open") port.plugged = true;
            port.sessions = sessions.map(session);
        } catch (error) {
            port.state = error.message;
        }
    }

    pollIfNeeded() {
        this.polls = (this.polls || 0) + 1;
        const all = this.polls % LIST_EVERY === 0;
        // No signal says which of several users has write access now.
        const shared = [...this.all.values()].some(({ sessions }) => sessions.length > 1);
        if (all || this.stirred || shared || this.withoutSignals) {
            this.stirred = false;
            this.poll(all);
        }
    }

    /** Counters and users of the ports that run, by one process; and why those that do not run do not. */
    async poll(all = false) {
        if (this.polling) return;
        this.polling = true;
        let changed = true;
        try {
            const asked = [json(["status", "--json"], true)];
            if (all || this.withoutSignals) asked.push(json(["list", "--json"], true));
            const [status, listed = []] = await Promise.all(asked);
            const seen = JSON.stringify([status, listed]);
            changed = all || listed.length > 0 || seen !== this.seen;
            this.seen = seen;
            for (const { port: name, state, plugged } of listed) {
                const port = this.all.get(name);
                if (port) Object.assign(port, { state, plugged });
            }
            const running = new Set();
            for (const { port: name, received, sent, errors, users, state } of status) {
                const port = this.all.get(name);
                if (!port) continue;
                running.add(name);
                port.moved = port.received !== received;
                Object.assign(port, { received, sent, errors, state });
                port.sessions = users.map((user) => (Array.isArray(user) ? session(user) : user));
            }
            for (const port of this.all.values()) {
                if (!running.has(port.name)) port.sessions = [];
            }
            this.pollError = null;
        } catch (error) {
            this.pollError = error;
        } finally {
            this.polling = false;
        }
        if (changed) this.announce();
        this.announce("poll");
    }

    signalled(member, args) {
        if (member === "Triggered") {
            const [port, rule, line] = args;
            this.triggered.unshift({ port, rule, line, at: new Date() });
            // A device can make a rule fire all the time; older ones are in the journal.
            this.triggered.length = Math.min(this.triggered.length, 100);
            this.announce("triggered");
            this.announce();
        } else if (member === "Changed") {
            const [action, [who, from], revision, , , text] = args;
            this.lastChange = { action, who, from, revision, text, at: new Date() };
            this.announce("changed");
            this.listSoon();
        }
    }

    /** Why ports do not work, and what would help. Root is shown more; this runs as the user. */
    async examine() {
        try {
            this.findings = await json(["doctor", "--json"], true);
            this.doctorError = null;
        } catch (error) {
            this.doctorError = error;
        }
        this.announce();
    }

    path(name) {
        return this.all.get(name)?.path || portPath(name);
    }
}

function session([user, from, since, writes]) {
    return { user, from, since, writes };
}

/** The properties of a port on the bus that the page shows. */
function taken(values) {
    const counters = values.Counters || {};
    const errors = ["framing", "parity", "overruns"].filter((name) => name in counters);
    return {
        state: values.State,
        unit: values.Unit,
        users: values.Users,
        received: counters.received ?? null,
        sent: counters.sent ?? null,
        errors: errors.length ? errors.reduce((sum, name) => sum + unwrapNumber(counters[name]), 0) : null,
        logLost: counters["log-lost"] ?? 0,
        candidate: values.Candidate,
        running: values.Running,
        committed: values.Committed,
        origins: values.Origins,
    };
}

function unwrapNumber(value) {
    return typeof value === "number" ? value : value?.v ?? 0;
}

/** What kind of state it is: the symbol and colour follow it, and the word stands beside them. */
export function condition(port) {
    const state = port.state || "";
    if (/^open\b/.test(state)) return "open";
    if (/^unplugged/.test(state)) return "unplugged";
    if (state === "not running") return port.plugged === false ? "absent" : "idle";
    if (state === "not enabled") return "disabled";
    if (/^(new, not reloaded|removed, not committed)$/.test(state)) return "pending";
    return "failed";
}

export const CONDITIONS = {
    open: ["●", "open"],
    idle: ["○", "idle"],
    unplugged: ["◌", "unplugged"],
    absent: ["◌", "not plugged in"],
    disabled: ["–", "not enabled"],
    pending: ["△", "uncommitted"],
    failed: ["✕", "error"],
};

/** The configuration in effect for display: that of the port as it runs, or as the next reload will have it. */
export function effective(port) {
    return Object.keys(port.running || {}).length ? port.running : port.candidate || port.committed || {};
}

export function settings(keys) {
    return keys.baud === undefined ? "" : `${keys.baud} ${keys.bytesize}${keys.parity}${keys.stopbits}`;
}

export function writer(port) {
    return port.sessions.find((session) => session.writes)?.user || "";
}
