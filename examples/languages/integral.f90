! Integrates 4 / (1 + x**2) from 0 to 1 by the midpoint rule.
program integral
  implicit none
  integer, parameter :: n = 1000000, wide = kind(1d0)
  integer :: i
  real(wide) :: x, total
  total = 0
  do i = 1, n
    x = (i - 0.5_wide) / n
    total = total + 4 / (1 + x * x)
  end do
  print '(f11.9)', total / n
end program integral
