/* Macros that write out the elements of a register tile. Not for callers. */
#ifndef ET_REPEAT_H
#define ET_REPEAT_H

/* Repetition: ET_PIXELS_6(DO, COLUMNS) is DO(0, COLUMNS) ... DO(5, COLUMNS), and ET_COLUMNS_4(DO, m) is DO(m, 0) ...
 * DO(m, 3). Named scalars, made so, stay in registers with every compiler; small arrays do not. */
#define ET_PIXELS_1(DO, COLUMNS) DO(0, COLUMNS)
#define ET_PIXELS_2(DO, COLUMNS) ET_PIXELS_1(DO, COLUMNS) DO(1, COLUMNS)
#define ET_PIXELS_3(DO, COLUMNS) ET_PIXELS_2(DO, COLUMNS) DO(2, COLUMNS)
#define ET_PIXELS_4(DO, COLUMNS) ET_PIXELS_3(DO, COLUMNS) DO(3, COLUMNS)
#define ET_PIXELS_5(DO, COLUMNS) ET_PIXELS_4(DO, COLUMNS) DO(4, COLUMNS)
#define ET_PIXELS_6(DO, COLUMNS) ET_PIXELS_5(DO, COLUMNS) DO(5, COLUMNS)
#define ET_PIXELS_8(DO, COLUMNS) ET_PIXELS_6(DO, COLUMNS) DO(6, COLUMNS) DO(7, COLUMNS)
#define ET_PIXELS_9(DO, COLUMNS) ET_PIXELS_8(DO, COLUMNS) DO(8, COLUMNS)
#define ET_PIXELS_10(DO, COLUMNS) ET_PIXELS_8(DO, COLUMNS) DO(8, COLUMNS) DO(9, COLUMNS)
#define ET_PIXELS_12(DO, COLUMNS) \
    ET_PIXELS_8(DO, COLUMNS) DO(8, COLUMNS) DO(9, COLUMNS) DO(10, COLUMNS) DO(11, COLUMNS)

#define ET_COLUMNS_1(DO, m) DO(m, 0)
#define ET_COLUMNS_2(DO, m) ET_COLUMNS_1(DO, m) DO(m, 1)
#define ET_COLUMNS_3(DO, m) ET_COLUMNS_2(DO, m) DO(m, 2)
#define ET_COLUMNS_4(DO, m) ET_COLUMNS_3(DO, m) DO(m, 3)
#define ET_COLUMNS_5(DO, m) ET_COLUMNS_4(DO, m) DO(m, 4)
#define ET_COLUMNS_6(DO, m) ET_COLUMNS_4(DO, m) DO(m, 4) DO(m, 5)
#define ET_COLUMNS_8(DO, m) ET_COLUMNS_4(DO, m) DO(m, 4) DO(m, 5) DO(m, 6) DO(m, 7)
#define ET_COLUMNS_10(DO, m) ET_COLUMNS_8(DO, m) DO(m, 8) DO(m, 9)
#define ET_COLUMNS_16(DO, m) \
    ET_COLUMNS_8(DO, m) DO(m, 8) DO(m, 9) DO(m, 10) DO(m, 11) DO(m, 12) DO(m, 13) DO(m, 14) DO(m, 15)

#endif
