// Builds DOM nodes. Text is always set as text: nothing that a device, a file or a user wrote is parsed as HTML.

/** h("button", { class: "primary", onclick: run }, "Commit") */
export function h(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (value === false || value === null || value === undefined) continue;
        if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
        else if (name === "value") node.value = value;
        else if (value === true) node.setAttribute(name, "");
        else node.setAttribute(name, String(value));
    }
    node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
    return node;
}

/** Sets the text of a node only if it differs, so that nothing is laid out again and no selection is lost. */
export function setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
}

/** Device output and descriptions for display: C0 and C1 controls and bidirectional overrides become visible. */
export function plain(text) {
    return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (character) =>
        `\\u${character.codePointAt(0).toString(16).padStart(4, "0")}`,
    );
}

/** A line that draws attention: `kind` is "", "warning" or "danger". `text` is a string, or a list of strings and nodes. */
export function alert(kind, text, ...more) {
    const parts = [text].flat().map((part) => (typeof part === "string" ? plain(part) : part));
    return h("div", { class: `alert ${kind}`.trim(), role: kind ? "alert" : "status" }, h("span", {}, ...parts), ...more);
}

/** Local time as in the log, or UTC: the same everywhere on the page, so that times can be compared. */
export function dateTime(time, utc = false) {
    if (utc) return time.toISOString().replace("T", " ").slice(0, 23);
    const two = (number) => String(number).padStart(2, "0");
    return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

export function bytes(count) {
    if (count === null || count === undefined) return "–";
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    let value = count;
    while (value >= 1000 && unit < units.length - 1) {
        value /= 1000;
        unit += 1;
    }
    return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** The message of an error of cockpit.js, for a user. */
export function sentence(error) {
    if (typeof error === "string") return error;
    if (error?.problem === "not-found") return "consolectl was not found: is the package consoleserver installed?";
    if (error?.problem === "access-denied") return "You are not allowed to do this.";
    const text = error?.message || error?.problem || String(error);
    return text.replace(/^consolectl: /, "");
}

const collator = new Intl.Collator("en", { numeric: true });
/** p2 before p10. A collator that is kept: `localeCompare` with options makes one for each comparison. */
export function naturally(a, b) {
    return collator.compare(a, b);
}

let uid = 0;
export function id(prefix) {
    uid += 1;
    return `${prefix}-${uid}`;
}
