"""Pages for people, served by the service itself: what the student understood, and how the service stands.

    pages.py         what all pages share: the layout, assets, the browser's rules, forms
    error_pages.py   an error as a page, or as a piece of one
    forms.py         what a form holds as the body of the REST call that it stands for
    sign_in.py       a key for a session
    try_page.py      an explanation as it is written, and the student's view of it: heat.py, words.py
    datasets_page.py datasets as they stand, and one of them; its card: card_view.py
    new_dataset_page.py   a dataset from a file, first seen as it is read
    amounts.py       times and sizes in words
    rows_page.py     the rows of a dataset, filtered, and how their measures are distributed
    row_page.py      one row: texts, findings, siblings, manifest, made again
    system_page.py   how the service stands, and its keys
    templates/, static/   Jinja2 and what browsers load; static/vendor/ holds what is not ours

Everything a page does is a call of the REST API: the handlers here make its bodies and use its routes' own functions.
htmx (static/vendor/) puts pieces of pages in place; ours is what it cannot do, in static/*.js.
"""
