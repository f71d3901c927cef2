#BSUB -L /bin/ksh
#BSUB -J plain
#BSUB -o o
print hello
