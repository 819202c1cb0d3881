// The keys that an on-screen keyboard does not have, and those that a browser keeps for itself, such as Ctrl+W.
import { h } from "./dom.js";

/** Label, name, and what is sent; of an arrow its letter. */
const KEYS = [
    ["Esc", "Esc", "\x1b"],
    ["Tab", "Tab", "\t"],
];
const ARROWS = [
    ["↑", "Up", "A"],
    ["↓", "Down", "B"],
    ["←", "Left", "D"],
    ["→", "Right", "C"],
];

export class Keypad {
    /** `terminal` has the current encoding of arrow keys; `type` gets the text; `focus` returns to the terminal. */
    constructor(terminal, type, focus) {
        const arrow = (letter) => (terminal().modes.applicationCursorKeysMode ? `\x1bO${letter}` : `\x1b[${letter}`);
        // Without losing the focus of the terminal, whose on-screen keyboard would close.
        const button = (label, name, run) => h("button", { "aria-label": name, onpointerdown: (event) => event.preventDefault(), onclick: run }, label);
        const key = (label, name, code) =>
            button(label, name, () => {
                type(code());
                focus();
            });
        this.ctrl = button("Ctrl", "Ctrl, with the next key", () => {
            this.hold(!this.held);
            focus();
        });
        this.element = h(
            "div",
            { class: "keypad", role: "group", "aria-label": "Keys" },
            this.ctrl,
            ...KEYS.map(([label, name, text]) => key(label, name, () => text)),
            ...ARROWS.map(([label, name, letter]) => key(label, name, () => arrow(letter))),
        );
        this.hold(false);
    }

    hold(held) {
        this.held = held;
        this.ctrl.setAttribute("aria-pressed", String(held));
    }

    /** What is sent for a typed text: with Ctrl held, the control character of the one key. */
    apply(text) {
        if (!this.held) return text;
        this.hold(false);
        if (!/^[a-z@[\\\]^_? ]$/i.test(text)) return text;
        if (text === "?") return "\x7f";
        return String.fromCharCode(text.toUpperCase().charCodeAt(0) & 0x1f);
    }
}
