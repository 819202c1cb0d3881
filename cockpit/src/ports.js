// The state of the ports, kept up to date while the page is visible: systemd sends a signal when a port's state changes, signals of
// org.consoleserver1 when the configuration does; counters are polled.
import { MANAGER, PORT, TOP, json, listPorts, manager, onManager, onPorts, portCall, properties, property, watchUnits } from "./bus.js";
import { naturally, sentence } from "./dom.js";

const cockpit = window.cockpit;
/**
 * How often counters and users are read while the page is visible: by one call, which asks all ports that run. A port reports changes of
 * its state at once, but its counters only every 30 s, and which of several users has write access not at all.
 */
const POLL_MS = 10_000;
/** While two polls have shown the same and no port has reported anything, only every third one is made. */
const CALM_EVERY = 3;
/**
 * At every Nth poll, a process also reads which of the ports that do not run have a device, by a process. A device that is plugged in starts
 * its port, which is a signal; this is for one that is unplugged from a port that does not run.
 */
const LIST_EVERY = 30;
/** Signals within this time are answered by one reading: a unit that starts sends about ten of them. */
const COALESCE_MS = 60;
/** A full listing is repeated this often at most: each of 48 ports that are created in a row sends signals. */
const RELIST_MS = 500;
/** Doctor is asked why a port has stopped working, this much later, and this often at most: it looks at every port, unit and tty. */
const EXAMINE_DELAY_MS = 1000;
const EXAMINE_EVERY_MS = 30_000;
/** States for which doctor suggests a fix. */
export const TROUBLE = ["failed", "unplugged", "absent"];
/** The state of a port that does not run, on the bus. */
const NOT_RUNNING = "not running";

export class Ports extends EventTarget {
    constructor() {
        super();
        /** name → port */
        this.all = new Map();
        this.manager = null;
        this.mayAdminister = false;
        /** Why the ports are not known, and why their counters are not: sentences. */
        this.listError = null;
        this.pollError = null;
        this.loaded = false;
        this.findings = [];
        this.doctorError = null;
        this.triggered = [];
        this.changedUnits = new Set();
        this.statusWords = new Map();
        this.polls = 0;
        this.stirred = false;
        this.listings = 0;
        this.unitTimer = null;
        this.listTimer = null;
        this.examineTimer = null;
        this.examinedAt = 0;
        this.pollTimer = null;
        this.stopWatching = null;
    }

    start() {
        onPorts(() => this.listSoon());
        onManager((member, args) => this.signalled(member, args));
        cockpit.addEventListener("visibilitychange", () => {
            if (cockpit.hidden) this.sleep();
            else this.wake();
        });
        this.wake();
        // A page that is loaded in the background reads once.
        if (cockpit.hidden) this.sleep();
    }

    /** The page is shown: units are watched, counters are polled, and what has changed while it was hidden is read. */
    wake() {
        if (!this.stopWatching) {
            this.stopWatching = watchUnits(
                (unit, status) => this.unitChanged(unit, status),
                () => (this.withoutSignals = true),
            );
            this.pollTimer = setInterval(() => {
                this.polls += 1;
                const all = this.withoutSignals || this.polls % LIST_EVERY === 0;
                if (all || this.stirred || this.polls % CALM_EVERY === 0) this.poll(all);
            }, POLL_MS);
        }
        this.list();
    }

    /** The page is hidden, by another tab of the browser or another page of Cockpit: nothing is read. */
    sleep() {
        this.stopWatching?.();
        this.stopWatching = null;
        clearInterval(this.pollTimer);
    }

    get error() {
        return this.listError || this.pollError;
    }

    /** The port that a view shows before one is chosen: one that is open, as reading the log of an idle one would start it. */
    first() {
        const names = [...this.all.keys()].sort(naturally);
        return names.find((name) => condition(this.all.get(name)) === "open") || names[0];
    }

    get(name) {
        return this.all.get(name);
    }

    announce(type = "change") {
        this.dispatchEvent(new Event(type));
    }

    listSoon() {
        if (this.listTimer || cockpit.hidden) return;
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
            const rest = Promise.all([properties(TOP, MANAGER), manager("MayAdminister")]);
            // (A failure of the one that is not awaited yet is reported below.)
            rest.catch(() => {});
            const [listed, [running]] = await Promise.all([listPorts(), manager("RunningPorts")]);
            const before = this.all;
            this.all = new Map(listed.map((port) => [port.name, Object.assign(before.get(port.name) || blank(), port)]));
            this.take(running);
            this.listError = null;
            this.listings += 1;
            // The ports are shown before it is known what the user may do.
            this.announce();
            const [values, [may]] = await rest;
            this.manager = values;
            this.mayAdminister = may;
            this.loaded = true;
        } catch (error) {
            this.listError = `The administration service does not answer: ${sentence(error)}`;
        }
        this.announce();
        if (!this.listError) await this.poll(true);
    }

    unitChanged(unit, status) {
        this.stirred = true;
        if (status !== undefined) {
            // If only its counters differ: the poll reads these.
            const words = status.replace(/\d+ (bytes )?(in|out)\b/g, "");
            if ((this.statusWords.get(unit) ?? this.openWords(unit)) === words) return;
            this.statusWords.set(unit, words);
        }
        this.changedUnits.add(unit);
        if (this.unitTimer) return;
        this.unitTimer = setTimeout(async () => {
            this.unitTimer = null;
            const units = this.changedUnits;
            this.changedUnits = new Set();
            const ports = [...this.all.values()].filter((port) => units.has(port.unit));
            const before = ports.map(condition);
            await Promise.all(ports.map((port) => this.readPort(port)));
            if (ports.some((port, index) => condition(port) !== before[index] && TROUBLE.includes(condition(port)))) this.examineSoon();
            this.announce();
        }, COALESCE_MS);
    }

    /** The STATUS= of a port that is open as it was listed, without counters: the first one that is reported is no news then. */
    openWords(unit) {
        const port = [...this.all.values()].find((listed) => listed.unit === unit);
        return port?.state === "open" ? `${settings(port.keys)}, ${port.sessions.length} attached, , ` : undefined;
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

    /** Counters and users of the ports that run, by one call; `all`: also which of the others have a device. */
    poll(all = false) {
        if (this.polling && all) return this.polling.then(() => this.poll(true));
        this.polling ||= this.pollNow(all).finally(() => (this.polling = null));
        return this.polling;
    }

    async pollNow(all) {
        let changed = true;
        try {
            const [[running], listed] = await Promise.all([manager("RunningPorts"), all ? json(["list"]) : []]);
            const seen = JSON.stringify(running);
            changed = all || seen !== this.seen;
            this.stirred = seen !== this.seen;
            this.seen = seen;
            for (const { port: name, state, plugged } of listed) {
                const port = this.all.get(name);
                if (port) Object.assign(port, { state, plugged });
            }
            this.take(running);
            this.pollError = null;
        } catch (error) {
            this.pollError = `The states of the ports are not current: ${sentence(error)}`;
        }
        if (changed) this.announce();
        this.announce("poll");
    }

    /** What the ports that run report. */
    take(running) {
        const reports = new Map(running.map(([name, ...report]) => [name, report]));
        for (const port of this.all.values()) {
            const [state, counters, sessions] = reports.get(port.name) || [NOT_RUNNING, {}, []];
            // `list` has better words for some of the others.
            if (reports.has(port.name) || condition(port) === "open") port.state = state;
            Object.assign(port, counted(counters), { sessions: sessions.map(session) });
        }
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
            const [, , , , , text] = args;
            this.lastChange = { text, at: new Date() };
            this.listSoon();
        }
    }

    examineSoon() {
        if (this.examineTimer) return;
        this.examineTimer = setTimeout(() => {
            this.examineTimer = null;
            if (!cockpit.hidden) this.examine();
        }, Math.max(EXAMINE_DELAY_MS, this.examinedAt + EXAMINE_EVERY_MS - Date.now()));
    }

    /** Why ports do not work, and what would help. Root is shown more; this runs as the user. */
    async examine(options = {}) {
        this.examinedAt = Date.now();
        try {
            this.findings = await json(["doctor"], options);
            this.doctorError = null;
        } catch (error) {
            this.doctorError = error;
        }
        this.announce();
    }
}

function session([user, from, since, writes]) {
    return { user, from, since, writes };
}

/** The counters that the page shows. Drivers count errors; those of a pty do not. */
function counted(counters) {
    const errors = ["framing", "parity", "overruns"].filter((name) => name in counters);
    return {
        received: counters.received ?? null,
        sent: counters.sent ?? null,
        errors: errors.length ? errors.reduce((sum, name) => sum + counters[name], 0) : null,
        logLost: counters["log-lost"] ?? 0,
    };
}

/** A port of which nothing is known yet. */
function blank() {
    return { state: NOT_RUNNING, sessions: [], lastLine: "" };
}

export function isRunning(port) {
    return port !== undefined && port.state !== NOT_RUNNING && condition(port) !== "pending";
}

/** What kind of state it is: the symbol and colour follow it, and the word stands beside them. */
export function condition(port) {
    const state = port.state || "";
    if (/^open\b/.test(state)) return "open";
    if (/^unplugged/.test(state)) return "unplugged";
    if (state === NOT_RUNNING) return port.plugged === false ? "absent" : "idle";
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

export function settings(keys) {
    if (keys.source) return keys.source;
    return keys.baud === undefined ? "" : `${keys.baud} ${keys.bytesize}${keys.parity}${keys.stopbits}`;
}
