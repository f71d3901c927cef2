#PBS -l nodes=1
#PBS -l walltime=100
hostname
