-- Answers are forgotten in the order in which they were stored, which is that of their row ids:
-- to keep them in order of time too cost as much as to look up whether a call was answered.

DROP INDEX response_by_age;
