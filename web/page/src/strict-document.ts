// A document for xterm.js under a policy that forbids inline style. Its DOM renderer writes style elements and
// style attributes, which `style-src 'self'` blocks; here they become style sheets and properties set by
// script, which it allows. All else is the page's own document.

let spansWrapped = false;

export function strictDocument(real: Document): Document {
  wrapSpans();
  return new Proxy(real, {
    get(target, name) {
      if (name === 'createElement') return create;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
    set: (target, name, value) => Reflect.set(target, name, value, target),
  });

  function create(tag: string): HTMLElement {
    return tag === 'style' ? styleElement(real) : real.createElement(tag);
  }
}

/** Cells with colours of their own are spans, made in the page's document whatever xterm.js is given. */
function wrapSpans(): void {
  if (spansWrapped) return;
  spansWrapped = true;
  HTMLSpanElement.prototype.setAttribute = function (name: string, value: string): void {
    if (name === 'style') this.style.cssText = value;
    else Element.prototype.setAttribute.call(this, name, value);
  };
}

/** Stands where the style element would; its text is a sheet of the document for as long. */
function styleElement(real: Document): HTMLElement {
  const stand = real.createElement('span');
  const sheet = new CSSStyleSheet();
  stand.hidden = true;
  Object.defineProperty(stand, 'textContent', {
    get: () => '',
    set: (css: string) => {
      sheet.replaceSync(css);
      if (!real.adoptedStyleSheets.includes(sheet)) real.adoptedStyleSheets.push(sheet);
    },
  });
  stand.remove = () => {
    real.adoptedStyleSheets = real.adoptedStyleSheets.filter((one) => one !== sheet);
    Element.prototype.remove.call(stand);
  };
  return stand;
}
