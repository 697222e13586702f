// The form to log in, in place of everything else. What stands behind # stays, so that one comes back to it.

import { logIn, type Problem } from './api';
import { h } from './dom';

/** Whether a name and a password are of use there. */
export const takesPasswords = (why: Problem): boolean => why.code !== 'not-known' && why.code !== 'share-ended';

export function loginPage(why: Problem): HTMLElement {
  if (!takesPasswords(why)) {
    return h('main', { class: 'login' }, h('h1', {}, 'Consoles'), h('p', { role: 'alert' }, why.message));
  }
  const user = h('input', {
    class: 'field',
    name: 'username',
    autocomplete: 'username',
    autocapitalize: 'none',
    spellcheck: 'false',
    required: true,
    maxlength: '64',
  });
  const password = h('input', {
    class: 'field',
    name: 'password',
    type: 'password',
    autocomplete: 'current-password',
    required: true,
  });
  const wrong = h('p', { class: 'warning', role: 'alert', hidden: true });
  const submit = h('button', { type: 'submit', class: 'button primary' }, 'Log in');
  const form = h(
    'form',
    { class: 'login-form' },
    h('label', { class: 'labelled' }, 'Name', user),
    h('label', { class: 'labelled' }, 'Password', password),
    wrong,
    submit,
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void send();
  });

  async function send(): Promise<void> {
    submit.disabled = true;
    wrong.hidden = true;
    try {
      await logIn(user.value, password.value);
      // Whatever was here was somebody else's, or nobody's.
      location.reload();
    } catch (error) {
      wrong.textContent = (error as Error).message.replace(/^./, (first) => first.toUpperCase());
      wrong.hidden = false;
      password.value = '';
      password.focus();
      submit.disabled = false;
    }
  }

  return h('main', { class: 'login' }, h('h1', {}, 'Consoles'), form);
}

/** Puts it on the page, and the caret into it. */
export function showLogin(why: Problem): void {
  document.title = 'Log in · Consoles';
  document.body.replaceChildren(loginPage(why));
  document.querySelector<HTMLElement>('.login input')?.focus();
}
