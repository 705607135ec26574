// The menu on small screens, and forms that check what is typed. Some compose a message to copy or mail; the others are
// sent by the browser itself, to the site's own server.
(() => {
  "use strict";

  const button = document.querySelector("[data-nav-button]");
  const nav = document.getElementById("nav");
  if (button && nav) {
    const show = (open) => {
      nav.classList.toggle("is-open", open);
      button.setAttribute("aria-expanded", String(open));
    };
    button.addEventListener("click", () => show(button.getAttribute("aria-expanded") !== "true"));
    nav.addEventListener("click", (event) => {
      if (event.target.closest("a")) show(false);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && button.getAttribute("aria-expanded") === "true") {
        show(false);
        button.focus();
      }
    });
  }

  const element = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };

  const complaint = (field, words) => {
    if (field.validity.valueMissing || (field.required && !field.value.trim())) return words.required;
    if (!field.validity.valid) return field.type === "email" ? words.email : words.required;
    return "";
  };

  for (const form of document.querySelectorAll("form[data-check]")) {
    const words = form.dataset;
    const status = form.querySelector("[data-status]");
    const fields = [...form.querySelectorAll("input, textarea, select")];
    form.noValidate = true;

    const check = (field) => {
      const said = complaint(field, words);
      const place = document.getElementById(`${field.id}-error`);
      field.toggleAttribute("aria-invalid", false);
      if (said) field.setAttribute("aria-invalid", "true");
      if (place) place.textContent = said;
      return said === "";
    };

    for (const field of fields) {
      field.addEventListener("input", () => {
        if (field.getAttribute("aria-invalid") === "true") check(field);
      });
    }

    form.addEventListener("submit", (event) => {
      const wrong = fields.filter((field) => !check(field));
      if (wrong.length || "compose" in words) event.preventDefault();
      status.replaceChildren();
      if (wrong.length) wrong[0].focus();
      if (wrong.length || !("compose" in words)) return;
      const lines = fields
        .filter((field) => field.value.trim())
        .map((field) => `${field.labels[0].dataset.label}: ${field.value.trim()}`);
      const text = lines.join("\n");
      const name = form.querySelector("[data-name]");
      const thanks = name ? words.thanks.replace("{name}", () => name.value.trim()) : words.thanks;
      status.append(element("strong", thanks), element("span", words.ready), element("pre", text, { tabindex: "0" }));
      if (words.mail) {
        const subject = encodeURIComponent(words.subject);
        const body = encodeURIComponent(text.replaceAll("\n", "\r\n"));
        status.append(element("a", words.open, { class: "button", href: `mailto:${words.mail}?subject=${subject}&body=${body}` }));
      }
      const copy = element("button", words.copy, { class: words.mail ? "button button--quiet" : "button", type: "button" });
      copy.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(text);
          copy.textContent = words.copied;
        } catch {
          getSelection().selectAllChildren(status.querySelector("pre"));
        }
      });
      status.append(copy);
      status.scrollIntoView({ block: "nearest" });
    });
  }
})();
